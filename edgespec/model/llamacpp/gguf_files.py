"""GGUF files: which one a target means, and where its tokenizer is."""

from __future__ import annotations

from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.engines.gguf_folder import gguf_files, gguf_folder


def gguf_file(target: str | Path | None) -> Path:
    """The file itself, or the one in the folder. Raises EdgespecError."""
    if target is None:
        raise EdgespecError("--engine llamacpp needs a GGUF file: give it with --target FILE.gguf.")
    path = Path(target).expanduser()
    files = gguf_files(path)
    if len(files) != 1:
        found = f"{len(files)} GGUF files" if path.is_dir() else "no GGUF file"
        raise EdgespecError(f"there is {found} at {path}: give the file itself with --target FILE.gguf.")
    return files[0]


def tokenizer_folder(file: Path) -> Path:
    """Where its tokenizer.json is: beside the file, else made of what the file holds. Raises EdgespecError."""
    return file.parent if (file.parent / "tokenizer.json").is_file() else gguf_folder(file)
