"""The text that the bundled pair learns: the Python standard library's own sources.

A file's path decides, by its hash, whether it is trained on or held out; held-out files are seen by
neither the tokenizer nor a model. Identical files count once, generated tables not at all.
"""

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
    def train_bytes(self) -> int:
        return sum(len(document.text.encode()) for document in self.train)


def collect(folder: Path | None = None) -> Corpus:
    """Read every `*.py` file below `folder` (default: the running interpreter's standard library).

    Raises EdgespecError if the folder holds too little text to split.
    """
    root = folder if folder is not None else Path(sysconfig.get_paths()["stdlib"])
    if not root.is_dir():
        raise EdgespecError(
            f"The corpus folder {root} does not exist: give --corpus a folder of Python files."
        )
    train: list[Document] = []
    held_out: list[Document] = []
    seen: set[bytes] = set()
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for name in sorted(paths, key=_path_hash):
        if LEFT_OUT_FOLDERS.intersection(Path(name).parts):
            continue
        text = _read(paths[name])
        digest = hashlib.sha256(text.encode()).digest()
        if not text.strip() or digest in seen:
            continue
        seen.add(digest)
        (held_out if is_held_out(name) else train).append(Document(name, text))
    if not train or not held_out:
        raise EdgespecError(
            f"The corpus folder {root} holds too few Python files: give --corpus a larger one."
        )
    return Corpus(tuple(train), tuple(held_out))


def is_held_out(name: str) -> bool:
    """Whether the file of this relative path is kept from training."""
    return int(_path_hash(name)[:8], 16) % HELD_OUT_SHARE == 0


def _path_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read(path: Path) -> str:
    """The file's text; empty for what is no UTF-8 or is too long to have been written by hand."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8") if len(data) <= MOST_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""
