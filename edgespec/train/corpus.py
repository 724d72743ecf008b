"""The text that the bundled pair learns: the sources of the Python standard library.

The hash of a file's path decides whether it is trained on or held out; neither the tokenizer nor a model sees a
held-out file. Identical files count once, generated tables not at all."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.train.data import Record, is_held_out, records

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

    @property
    def records(self) -> list[Record]:
        return [(one.path, {"text": one.text}) for one in (*self.train, *self.held_out)]


def collect(folder: Path | None = None) -> Corpus:
    """Read every `*.py` file below `folder` (default: the running interpreter's standard library). Raises
    EdgespecError where it holds too little to split."""
    root = folder if folder is not None else Path(sysconfig.get_paths()["stdlib"])
    by_path: dict[str, str] = {}
    for name, fields in records([root], _is_source):
        path = name.partition("#")[0]
        by_path[path] = by_path.get(path, "") + fields["text"]
    by_text: dict[str, Document] = {}
    for path, text in by_path.items():
        if text.strip() and len(text.encode()) <= MOST_BYTES:
            by_text.setdefault(text, Document(path, text))
    train = tuple(document for document in by_text.values() if not is_held_out(document.path))
    held_out = tuple(document for document in by_text.values() if is_held_out(document.path))
    if not train or not held_out:
        raise EdgespecError(f"the folder {root} holds too few Python files: give --corpus a larger one.")
    return Corpus(train, held_out)


def _is_source(name: str) -> bool:
    return name.endswith(".py") and not LEFT_OUT_FOLDERS.intersection(Path(name).parts)
