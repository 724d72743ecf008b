"""GGUF files: which one a target means, and the hash of the vocabulary that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.tokenizer import vocabulary_hash
from edgespec.engines.model_folder import quiet


def gguf_file(target: str | Path | None) -> Path:
    """The file itself, or the one in the folder. Raises EdgespecError."""
    if target is None:
        raise EdgespecError("--engine llamacpp needs a GGUF file: give it with --target FILE.gguf.")
    path = Path(target).expanduser()
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path] if path.suffix == ".gguf" else []
    if len(files) != 1 or not files[0].is_file():
        found = f"{len(files)} GGUF files" if path.is_dir() else "no GGUF file"
        raise EdgespecError(f"there is {found} at {path}: give the file itself with --target FILE.gguf.")
    return files[0]


def gguf_vocabulary_hash(file: Path) -> bytes:
    """By the tokenizer.json beside it, else by the vocabulary in the file. Raises EdgespecError."""
    beside = file.parent / "tokenizer.json"
    try:
        if beside.is_file():
            return vocabulary_hash(tokenizers.Tokenizer.from_file(str(beside)))
        import transformers

        with quiet():
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        return vocabulary_hash(tokenizer.backend_tokenizer)
    except Exception as error:
        raise EdgespecError(
            f"the tokenizer of {file.name} cannot be read ({first_line(error)}): save its tokenizer.json beside it."
        ) from None
