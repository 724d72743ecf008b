"""The text that the bundled pair learns: the sources of the Python standard library.

The hash of a file's path decides whether it is trained on or held out; neither the tokenizer nor a model sees a
held-out file. Identical files count once, generated tables not at all."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from edgespec.core.errors import EdgespecError

HELD_OUT_SHARE = 20
"""One file in this many is held out."""

LICENCE = "Python Software Foundation License Version 2 (the CPython standard library)"

LEFT_OUT_FOLDERS = frozenset(
    {"site-packages", "__pycache__", "lib2to3", "pydoc_data", "encodings", "idle_test"}
)
MOST_BYTES = 400_000
"""Longer files were written by a program."""


@dataclass(frozen=True)
class Document:
    """One source file: its path relative to the corpus folder and its text."""

    path: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The documents of both splits, in an order that depends on their paths only."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]


def collect(folder: Path | None = None) -> Corpus:
    """Read every `*.py` file below `folder` (default: the running interpreter's standard library). Raises
    EdgespecError where it holds too little to split."""
    root = folder if folder is not None else Path(sysconfig.get_paths()["stdlib"])
    if not root.is_dir():
        raise EdgespecError(
            f"The corpus folder {root} does not exist: give --corpus a folder of Python files."
        )
    by_text: dict[str, Document] = {}
    for name in sorted((path.relative_to(root).as_posix() for path in root.rglob("*.py")), key=_path_hash):
        if not LEFT_OUT_FOLDERS.intersection(Path(name).parts):
            text = _read(root / name)
            by_text.setdefault(text, Document(name, text))
    documents = [document for text, document in by_text.items() if text.strip()]
    train = tuple(document for document in documents if not is_held_out(document.path))
    held_out = tuple(document for document in documents if is_held_out(document.path))
    if not train or not held_out:
        raise EdgespecError(
            f"The corpus folder {root} holds too few Python files: give --corpus a larger one."
        )
    return Corpus(train, held_out)


def is_held_out(name: str) -> bool:
    """Whether the file of this relative path is kept from training."""
    return int(_path_hash(name)[:8], 16) % HELD_OUT_SHARE == 0


def _path_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read(path: Path) -> str:
    """The file's text; empty where it is not UTF-8 or too long."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8") if len(data) <= MOST_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""
