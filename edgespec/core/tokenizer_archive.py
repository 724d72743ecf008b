"""A target's tokenizer and chat template as one archive, known by a hash of its files.

A server offers it by the hash in its WELCOME; a device that has no such files fetches the archive once and keeps it.
The hash covers the files' contents, not the archive's bytes, so two servers of one model name the same.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from edgespec.core.errors import EdgespecError

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MAX_ARCHIVE_BYTES, MAX_FILE_BYTES = 32 << 20, 128 << 20
NO_HASH = bytes(32)
"""In a WELCOME: nothing is offered. In a HELLO: the edge has no vocabulary of its own."""


def read_files(folder: Path) -> dict[str, bytes]:
    """Those of FILES that the folder has."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}


def hash_of(files: Mapping[str, bytes]) -> bytes:
    """SHA-256 over each file's name, length and bytes, in the order of FILES."""
    digest = hashlib.sha256()
    for name in FILES:
        if name in files:
            digest.update(f"{name}\n{len(files[name])}\n".encode())
            digest.update(files[name])
    return digest.digest()


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of the files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def unpack(archive: bytes, wanted: bytes) -> dict[str, bytes]:
    """The files of an archive whose hash is `wanted`. Raises EdgespecError for any other archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            files = {name: _read(opened, name) for name in FILES if name in opened.namelist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise EdgespecError(f"the server's tokenizer cannot be read ({error}).") from None
    if hash_of(files) != wanted:
        raise EdgespecError("the server sent another tokenizer than it names.")
    return files


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """At most MAX_FILE_BYTES, whatever the archive says of the file's size."""
    with archive.open(name) as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{name} has more than {MAX_FILE_BYTES} bytes")
    return data
