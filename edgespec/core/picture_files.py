"""Picture files: what they are is read from their headers before anything is decoded, so that a hostile one costs
nothing.

Only PNG and JPEG are read, JPEG without progressive scans. Pillow decodes.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.pictures import MAX_BYTES, MAX_PIXELS

MAX_SCANS = 16
"""Of a JPEG: each one costs a pass over the whole picture."""

PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT pHYs bKGD".split())
"""What is read of a PNG. Others may hold texts or profiles that grow when they are decompressed."""

SEQUENTIAL = frozenset((0xC0, 0xC1))
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of sequential frames, and of all frames."""

MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A JPEG's marker with a length, or its end; others stand within scans."""

MAX_PARTS = 2048
"""Chunks of a PNG, or segments of a JPEG."""


@dataclass(frozen=True)
class PictureHeader:
    """format: "png" or "jpeg". height, width: in pixels."""

    format: str
    height: int
    width: int


def read_header(file: bytes) -> PictureHeader:
    """Raises EdgespecError for a file that must not be decoded."""
    if len(file) > MAX_BYTES:
        raise EdgespecError(f"a picture has {len(file)} bytes, and may have {MAX_BYTES}.")
    try:
        if file.startswith(PNG):
            header = _png(file)
        elif file.startswith(b"\xff\xd8"):
            header = _jpeg(file)
        else:
            raise EdgespecError("a picture is neither PNG nor JPEG: convert it.")
    except (struct.error, IndexError):
        raise EdgespecError("a picture is cut off: send the whole file.") from None
    if not header.height or not header.width or header.height * header.width > MAX_PIXELS:
        raise EdgespecError(
            f"a picture has {header.width}x{header.height} pixels, and may have {MAX_PIXELS} in all: scale it down."
        )
    return header


def decode(file: bytes) -> NDArray[np.uint8]:
    """The pixels uint8 [height, width, 3] of a file, red, green and blue. Raises EdgespecError."""
    from PIL import Image

    header = read_header(file)
    try:
        with Image.open(io.BytesIO(file), formats=[header.format.upper()]) as picture:
            if picture.size != (header.width, header.height):
                raise EdgespecError("a picture's header is contradictory: save it again.")
            pixels: NDArray[np.uint8] = np.asarray(picture.convert("RGB"))
    except EdgespecError:
        raise
    except Exception as error:  # Pillow raises many kinds for a file that is broken
        raise EdgespecError(f"a picture cannot be decoded ({type(error).__name__}): save it again.") from None
    return pixels


def _png(file: bytes) -> PictureHeader:
    header: PictureHeader | None = None
    for kind, start in _png_chunks(file):
        if kind not in PNG_CHUNKS:
            name = kind.decode("ascii", errors="replace")
            raise EdgespecError(f"a PNG holds a {name!r} chunk, which is not read: save it without metadata.")
        if (kind == b"IHDR") != (header is None):
            raise EdgespecError("a PNG does not begin with its header: save it again.")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", file, start)
            header = PictureHeader("png", height, width)
    if header is None:
        raise EdgespecError("a PNG has no header: save it again.")
    return header


def _png_chunks(file: bytes) -> Iterator[tuple[bytes, int]]:
    """Each chunk's kind, and where its content begins."""
    at = len(PNG)
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", file, at)
        if length > len(file) - at - 12:
            raise IndexError
        yield kind, at + 8
        if kind == b"IEND":
            return
        at += 12 + length
    raise EdgespecError(f"a PNG has more than {MAX_PARTS} chunks: save it again.")


def _jpeg(file: bytes) -> PictureHeader:
    header: PictureHeader | None = None
    scans = 0
    for marker, start in _jpeg_markers(file):
        if marker in FRAMES:
            if marker not in SEQUENTIAL:
                raise EdgespecError(
                    "a JPEG is progressive, lossless or arithmetic: save it as a baseline JPEG."
                )
            if header is not None:
                raise EdgespecError("a JPEG holds two pictures: save it again.")
            height, width = struct.unpack_from(">HH", file, start + 3)
            header = PictureHeader("jpeg", height, width)
        elif marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise EdgespecError(f"a JPEG has more than {MAX_SCANS} scans: save it as a baseline JPEG.")
    if header is None or not scans:
        raise EdgespecError("a JPEG holds no picture: save it again.")
    return header


def _jpeg_markers(file: bytes) -> Iterator[tuple[int, int]]:
    """Each segment's marker, and where its length stands; to the end of the picture or of the file."""
    at = 2
    for _ in range(MAX_PARTS):
        found = MARKER.search(file, at)
        if found is None or file[found.end() - 1] == 0xD9:
            return
        at = found.end()
        yield file[at - 1], at
        at += struct.unpack_from(">H", file, at)[0]
    raise EdgespecError(f"a JPEG has more than {MAX_PARTS} segments: save it again.")
