"""A GGUF file as a model's folder: its config and tokenizer as transformers reads them, and a link to the weights.

The folder lies in the cache and is made once for a file. The weights are not copied: transformers reads them from the
file, dequantised, whenever they are loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from edgespec.core.cache_folder import cache_folder
from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.weight_files import GGUF_WEIGHTS
from edgespec.core.whole_files import whole_folder
from edgespec.engines.quiet import quiet

NOT_IN_A_COPY = ("quantization_config", "_name_or_path")
"""Members of the config that would have transformers read the weights as quantised ones."""


def gguf_files(path: Path) -> list[Path]:
    """The GGUF file that the path is, or those in the folder that it is."""
    if path.is_dir():
        return sorted(path.glob("*.gguf"))
    return [path] if path.suffix == ".gguf" and path.is_file() else []


def gguf_folder(file: Path) -> Path:
    """The folder of a GGUF file of a causal language model. Raises EdgespecError."""
    if importlib.util.find_spec("gguf") is None:
        raise EdgespecError(f"reading {file.name} needs the library gguf: pip install gguf.")
    state = file.resolve().stat()
    known = f"{file.resolve()}\n{state.st_size}\n{state.st_mtime_ns}"
    folder = cache_folder("gguf") / f"{file.stem}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    if (folder / "config.json").is_file() and (folder / GGUF_WEIGHTS).exists():
        return folder
    with whole_folder(folder) as unfinished:
        try:
            _describe(file, unfinished)
        except Exception as error:
            raise EdgespecError(
                f"{file} cannot be read as a model ({first_line(error)}): give a GGUF file of a causal language model "
                "that transformers knows."
            ) from None
        (unfinished / GGUF_WEIGHTS).symlink_to(file.resolve())
    return folder


def _describe(file: Path, folder: Path) -> None:
    """Write config.json and the tokenizer's files."""
    from transformers import AutoConfig, AutoTokenizer

    with quiet():
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
        tokenizer.save_pretrained(folder)
    kept = {name: value for name, value in config.to_dict().items() if name not in NOT_IN_A_COPY}
    (folder / "config.json").write_text(json.dumps(kept, default=str) + "\n", encoding="utf-8")
