"""The pictures of a text as its draft reads them.

A draft that sees reads a picture at its own encoder's size, in as many rows as that makes. A draft of text alone, and
one that has no file of a picture, leaves out the picture's rows. So a token's place in what the draft reads is not its
place in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.picture_files import decode
from edgespec.core.pictures import PictureSpan, SeenRows, rotary_positions
from edgespec.core.slots import Piece
from edgespec.engines.runtimes import Eyes


@dataclass(frozen=True)
class DraftPicture:
    """span: in the text. seen: in what the draft reads, of no rows where it leaves the picture out. file: its bytes."""

    span: PictureSpan
    seen: PictureSpan
    file: bytes


class DraftPictures:
    """eyes: the draft's; None: it reads text only. left_out: rows of the text that the draft does not read, less those
    that it reads beyond the text's."""

    def __init__(self, eyes: Eyes | None) -> None:
        self._eyes = eyes
        self._pictures: list[DraftPicture] = []
        self._features: dict[bytes, NDArray[np.float32]] = {}
        self.left_out = 0

    def take(self, spans: Sequence[PictureSpan], files: Sequence[bytes] = ()) -> None:
        """The text's pictures, in its order. files: of all of them, PNG or JPEG; none: the draft does not see them."""
        self._pictures, self.left_out = [], 0
        for number, span in enumerate(spans):
            file = files[number] if files and self._eyes is not None else b""
            first = span.first_row - self.left_out
            seen = PictureSpan(first, 0, 0, 0, span.sha256)
            if file and self._eyes is not None:
                shape = self._eyes.shape
                seen = PictureSpan(first, shape.rows, shape.height, shape.width, span.sha256)
            self._pictures.append(DraftPicture(span, seen, file))
            self.left_out += span.rows - seen.rows
        known = {span.sha256 for span in spans}
        self._features = {hash: rows for hash, rows in self._features.items() if hash in known}

    @property
    def unread(self) -> bool:
        """Whether the encoder has not looked at a picture yet."""
        return self._next() is not None

    def look(self) -> None:
        """Encode the next picture. Raises EdgespecError where it cannot be decoded."""
        picture, eyes = self._next(), self._eyes
        if picture is not None and eyes is not None:
            pixels = _pixels(picture.file, eyes.shape.height, eyes.shape.width)
            self._features[picture.seen.sha256] = eyes.encode(pixels)

    def _next(self) -> DraftPicture | None:
        unread = (one for one in self._pictures if one.file and one.seen.sha256 not in self._features)
        return next(unread, None)

    def readable(self, text: Sequence[int]) -> Sequence[int]:
        """The text as the draft reads it. A picture's rows hold its placeholder, which `sighted` replaces."""
        if not self._pictures:
            return text
        readable, start = list[int](), 0
        for one in self._pictures:
            readable += text[start : one.span.first_row]
            readable += [text[one.span.first_row]] * one.seen.rows
            start = one.span.end
        return [*readable, *text[start:]]

    def length(self, length: int) -> int:
        """How many rows the draft reads of the first `length` tokens, which cut no picture."""
        return length - sum(one.span.rows - one.seen.rows for one in self._pictures if one.span.end <= length)

    def sighted(self, piece: Piece) -> Piece:
        """The piece with what its rows see. Every picture was looked at."""
        eyes, spans = self._eyes, [one.seen for one in self._pictures if one.file]
        if eyes is None or not spans:
            return piece
        positions = piece.positions
        pictured = np.zeros(len(piece), dtype=np.bool_)
        features = np.zeros((len(piece), eyes.shape.features), dtype=np.float32)
        for span in spans:
            inside = (positions >= span.first_row) & (positions < span.end)
            pictured |= inside
            features[inside] = self._features[span.sha256][positions[inside] - span.first_row]
        axes = rotary_positions(spans, positions, eyes.shape.cell).astype(np.int32)
        return replace(piece, seen=SeenRows(axes, pictured, features))


def _pixels(file: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3], scaled where the file has another size."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise EdgespecError("a draft that sees needs Pillow: pip install 'edgespec[vision]'.") from None
    pixels = decode(file)
    if pixels.shape[:2] == (height, width):
        return pixels
    scaled = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled, dtype=np.uint8)
