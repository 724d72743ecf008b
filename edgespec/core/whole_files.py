"""Files and folders that are written whole or not at all: under another name in their place, and renamed at the end.

A build that fails or is interrupted leaves what was there before, and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgespec.core.errors import EdgespecError


@contextmanager
def whole_file(file: Path, private: bool = False) -> Iterator[BinaryIO]:
    """A file beside `file`, which takes its place if the block ends well and vanishes if not. private: only its user
    may read it. Raises OSError."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    try:
        with private_file(unfinished) if private else unfinished.open("wb") as stream:
            yield stream
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def save_json(content: Mapping[str, Any], file: Path) -> None:
    with whole_file(file) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())


def private_file(file: Path, append: bool = False) -> BinaryIO:
    """Open a file for writing that only its user may read, now as later; what a link points to is not touched.

    append: what it holds stays, and may be cut with `truncate`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
    descriptor = os.open(file, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """One process at a time is in the block, by a file that stays. Raises OSError."""
    with private_file(lock) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place if the block ends well and vanishes if not."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}.", suffix=".building", dir=folder.parent
        ) as scratch:
            unfinished, replaced = Path(scratch, "new"), Path(scratch, "old")
            unfinished.mkdir()
            yield unfinished
            if folder.exists():
                folder.rename(replaced)
            try:
                unfinished.rename(folder)
            except BaseException:
                if replaced.exists():
                    replaced.rename(folder)
                raise
    except OSError as error:
        raise EdgespecError(
            f"the engine cannot be written to {folder} ({error}): give another place."
        ) from None


def sha256_of(file: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
