"""Where a draft model comes from: a local folder in Hugging Face format, or a download by its id."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.manifest import GRAPH_FILE, MANIFEST_FILE

LIBRARIES = ("torch", "transformers", "onnx", "onnxscript")
"""What a build needs beyond what an edge has."""


def model_folder(model: str) -> Path:
    """The local folder of a model, downloaded first where an id is given. Raises EdgespecError."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model):
            raise EdgespecError(
                f"there is no model folder {model}: give a folder in Hugging Face format, or org/name."
            )
        folder = _downloaded(model)
    if (folder / MANIFEST_FILE).is_file() and (folder / GRAPH_FILE).is_file():
        raise EdgespecError(
            f"{model} is an engine already: pass it as a draft, or compile the model it was made of."
        )
    if not (folder / "config.json").is_file():
        raise EdgespecError(
            f"{model} is no model folder (it holds no config.json): give one in Hugging Face format."
        )
    return folder


def check_libraries() -> None:
    """Raises EdgespecError, naming the extra to install, where a library of the build is missing."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise EdgespecError(f"compiling a draft needs {', '.join(missing)}: pip install 'edgespec[compile]'.")


def check_vocabulary(draft: Path, target_tokenizer: str | Path | None) -> None:
    """Raises EdgespecError where the target's tokenizer is given and has another vocabulary than the draft's."""
    if target_tokenizer is None:
        return
    ours, theirs = Tokenizer.load(draft), Tokenizer.load(target_tokenizer)
    if ours.vocabulary_hash != theirs.vocabulary_hash:
        raise EdgespecError(
            f"the draft's tokenizer ({ours.vocabulary_size} tokens) is not the target's "
            f"({theirs.vocabulary_size} tokens in {target_tokenizer}): use a draft that was trained with the target's "
            "tokenizer, or train one (`edgespec train draft`)."
        )


def _downloaded(model: str) -> Path:
    check_libraries()
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = HfApi().model_info(model).siblings or []
        safe = any(file.rfilename.endswith(".safetensors") for file in files)
        weights = "model*.safetensors" if safe else "pytorch_model*.bin"
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.jinja", "*.model", weights]))
    except Exception as error:
        raise EdgespecError(
            f"there is no folder {model}, and no model of that id can be downloaded ({first_line(error)}): "
            "check the name and the network, or give a local folder."
        ) from None
