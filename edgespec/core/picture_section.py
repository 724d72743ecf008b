"""The section of an OPEN or APPEND that brings pictures (docs/wire-format.md): written and read."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgespec.core.errors import EdgespecError
from edgespec.core.pictures import MAX_BYTES, MAX_PICTURES, PictureSpan

HEAD = struct.Struct("<32sIIHHB3xII")
"""SHA-256, first row, rows, height, width, format, bytes, reserved; the picture's bytes follow."""

FORMATS = {"png": 1, "jpeg": 2}
FORMAT_NAMES = {number: name for name, number in FORMATS.items()}


@dataclass(frozen=True)
class SentPicture:
    """A picture as it goes over the wire. format: "png" or "jpeg". file: its bytes; empty where the server has it."""

    span: PictureSpan
    format: str
    file: bytes


def encode(pictures: Sequence[SentPicture]) -> bytes:
    """The section; empty without pictures."""
    parts: list[bytes] = []
    for picture in pictures:
        span, size = picture.span, len(picture.file)
        number = FORMATS[picture.format]
        parts.append(
            HEAD.pack(span.sha256, span.first_row, span.rows, span.height, span.width, number, size, 0)
        )
        parts.append(picture.file + bytes(-size % 8))
    return b"".join(parts)


def decode(section: bytes) -> list[SentPicture]:
    """Raises EdgespecError where the section does not hold what it says."""
    return list(_entries(memoryview(section)))


def _entries(section: memoryview) -> Iterator[SentPicture]:
    at, end, count = 0, 0, 0
    while at < len(section):
        if len(section) - at < HEAD.size:
            raise EdgespecError("the pictures' section ends within a picture.")
        sha256, first_row, rows, height, width, number, size, _ = HEAD.unpack_from(section, at)
        at += HEAD.size
        padded = size + -size % 8
        count += 1
        if count > MAX_PICTURES:
            raise EdgespecError(f"a session has {MAX_PICTURES} pictures at most: send fewer.")
        if size > MAX_BYTES:
            raise EdgespecError(f"a picture has {size} bytes, and may have {MAX_BYTES}.")
        if padded > len(section) - at:
            raise EdgespecError("a picture is longer than its section.")
        if number not in FORMAT_NAMES:
            raise EdgespecError(f"a picture has the unknown format {number}: send PNG or JPEG.")
        if not rows or first_row < end:
            raise EdgespecError("the pictures' rows overlap, or a picture has none.")
        span = PictureSpan(first_row, rows, height, width, sha256)
        yield SentPicture(span, FORMAT_NAMES[number], bytes(section[at : at + size]))
        at, end = at + padded, span.end
