"""Pictures in a text: where their rows lie, how a server wants them, and what both sides hold them to.

A picture takes one row of the text for each feature that its vision encoder makes of it. Each of these rows holds the
target's placeholder token; what the target reads there is the encoder's output instead. A picture is known by the
SHA-256 of its file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError

MAX_BYTES = 512 * 1024
"""Of one picture's file."""

MAX_PIXELS = 1_000_000

MAX_PICTURES = 16
"""In one session."""


@dataclass(frozen=True)
class PictureSpan:
    """The rows first_row, first_row + 1, ... of a text that are a picture's. height, width: its size in pixels. sha256:
    of its file, 32 bytes."""

    first_row: int
    rows: int
    height: int
    width: int
    sha256: bytes

    @property
    def end(self) -> int:
        """The first row behind it."""
        return self.first_row + self.rows


@dataclass(frozen=True)
class SeenRows:
    """What a draft that sees needs of the R rows of a run. axes: int32 [3, R], rotary positions. pictured: bool
    [R], the rows that are a picture's. features: float32 [R, D], in place of their tokens' embeddings."""

    axes: NDArray[np.int32]
    pictured: NDArray[np.bool_]
    features: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> SeenRows:
        return SeenRows(self.axes[:, rows], self.pictured[rows], self.features[rows])


def cut_picture(spans: Sequence[PictureSpan], length: int) -> PictureSpan | None:
    """The picture that a text of `length` tokens would hold a part of only; None: there is none."""
    return next((span for span in spans if span.first_row < length < span.end), None)


def whole_chunk(spans: Sequence[PictureSpan], start: int, rows: int) -> int:
    """Where a chunk of about this many rows from `start` ends, so that it cuts none of these pictures."""
    cut = cut_picture(spans, start + rows)
    if cut is None:
        return start + rows
    return cut.first_row if cut.first_row > start else cut.end


def rotary_positions(
    spans: Sequence[PictureSpan], positions: NDArray[np.integer[Any]], cell: int
) -> NDArray[np.int64]:
    """Rotary positions int64 [3, R] (time, row, column) of the text's rows at `positions` [R], for models that turn
    pictures on three axes. cell: pixels of a side that one row stands for.

    A picture's rows share one time, and count its cells; the text goes on behind the largest of them.
    """
    rotary = np.repeat(positions.astype(np.int64)[None], 3, axis=0)
    shift = 0
    for span in spans:
        across, down = span.width // cell, span.height // cell
        inside = (positions >= span.first_row) & (positions < span.end)
        index = positions[inside].astype(np.int64) - span.first_row
        start = span.first_row + shift
        rotary[:, inside] = start + np.stack([0 * index, index // across, index % across])
        shift += max(across, down) - span.rows
        behind = positions >= span.end
        rotary[:, behind] = positions[behind] + shift
    return rotary


@dataclass(frozen=True)
class PictureFormat:
    """How a target takes pictures: what WELCOME says of it, as JSON.

    placeholder: the token of a picture's rows. before, after: tokens that stand around them. mark: the token that the
    chat template writes for a picture.

    cell: pixels of a side that one row stands for, where a picture may have any size of whole cells with min_pixels to
    max_pixels in all; 0: every picture has `height` times `width` pixels and takes `rows` rows.
    """

    placeholder: int
    mark: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    cell: int = 0
    min_pixels: int = 0
    max_pixels: int = MAX_PIXELS
    height: int = 0
    width: int = 0
    rows: int = 0
    max_bytes: int = MAX_BYTES
    max_pictures: int = MAX_PICTURES

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture of this size is scaled to."""
        if not self.cell:
            return self.height, self.width
        cell, pixels = self.cell, height * width
        tall, wide = (max(cell, round(side / cell) * cell) for side in (height, width))
        if tall * wide > self.max_pixels:
            shrink = math.sqrt(pixels / self.max_pixels)
            tall, wide = (max(cell, math.floor(side / shrink / cell) * cell) for side in (height, width))
        elif tall * wide < self.min_pixels:
            grow = math.sqrt(self.min_pixels / pixels)
            tall, wide = (math.ceil(side * grow / cell) * cell for side in (height, width))
        return tall, wide

    def rows_of(self, height: int, width: int) -> int:
        """Rows of a picture of this size. Raises EdgespecError for a size that the target does not take."""
        if not self.cell:
            if (height, width) != (self.height, self.width):
                raise EdgespecError(
                    f"a picture has {width}x{height} pixels, and this target takes {self.width}x{self.height}."
                )
            return self.rows
        cell = self.cell
        if not height or not width or height % cell or width % cell:
            raise EdgespecError(
                f"a picture has {width}x{height} pixels, and this target takes multiples of {cell}."
            )
        if not self.min_pixels <= height * width <= self.max_pixels:
            raise EdgespecError(
                f"a picture has {height * width} pixels, and this target takes {self.min_pixels} to {self.max_pixels}."
            )
        return (height // cell) * (width // cell)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, section: bytes) -> PictureFormat | None:
        """None: the section is empty, the server takes no pictures. Members that are not known are passed over. Raises
        EdgespecError."""
        if not section:
            return None
        try:
            members = json.loads(section)
            known = {field.name: members[field.name] for field in fields(cls) if field.name in members}
            for name in ("before", "after"):
                known[name] = tuple(int(token) for token in known.get(name, ()))
            numbers = [value for name, value in known.items() if name not in ("before", "after")]
            if not all(isinstance(value, int) and value >= 0 for value in numbers):
                raise ValueError("a number is negative, or none")
            return cls(**known)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise EdgespecError(
                f"the server's WELCOME does not say how it takes pictures ({error})."
            ) from None
