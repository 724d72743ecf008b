"""The sizes of a draft and of one run of its graphs, and how a run's inputs are filled. Both runtimes use it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import SLOT_BUCKET, Piece

Sizes = dict[str, "tuple[tuple[int, ...], type]"]
"""By tensor: its shape and type."""


class RunShape(NamedTuple):
    """R rows, D deciding rows, P rows of noise (0: none), W slots of the bucket."""

    rows: int
    deciding: int
    noises: int
    bucket: int


PIXELS = "rgb8-hwc"
"""The layout of the pixels that a draft's vision encoder takes: uint8 [height, width, 3], red, green and blue."""


@dataclass(frozen=True)
class EyesShape:
    """A draft's vision encoder: of `height` times `width` pixels it makes one row of `features` numbers for each cell.
    cell: pixels of its side. layout: of the pixels."""

    height: int
    width: int
    cell: int
    features: int
    layout: str = PIXELS

    @property
    def rows(self) -> int:
        """Of a picture."""
        return (self.height // self.cell) * (self.width // self.cell)


@dataclass(frozen=True)
class DraftShape:
    """capacity: slots of the cache. choices: best tokens that a row returns. eyes: None: it reads text only."""

    layers: int
    kv_heads: int
    head_dim: int
    vocabulary_size: int
    capacity: int
    choices: int
    eyes: EyesShape | None = field(default=None, kw_only=True)

    def inputs(self, run: RunShape) -> Sizes:
        """The inputs of the graph (draft_graph.py, seeing_graph.py), without the noise and the cache."""
        sizes: Sizes = {
            "tokens": ((run.rows,), np.int32),
            "positions": ((run.rows,) if self.eyes is None else (3, run.rows), np.int32),
            "cached": ((run.rows, run.bucket), np.bool_),
            "among": ((run.rows, run.rows), np.bool_),
            "decide": ((run.deciding,), np.int32),
            "noise_rows": ((run.deciding,), np.int32),
            "inverse_temperature": ((), np.float32),
        }
        if self.eyes is not None:
            sizes["pictured"] = (run.rows,), np.bool_
            sizes["features"] = (run.rows, self.eyes.features), np.float32
        return sizes

    @cached_property
    def buckets(self) -> list[int]:
        """The widths at which attention runs: powers of two and half-way between, up to the capacity."""
        widths = [SLOT_BUCKET << i for i in range(self.capacity.bit_length())]
        widths += [width // 2 * 3 for width in widths[1:]]
        return [*sorted(width for width in widths if width < self.capacity), self.capacity]

    def bucket(self, width: int) -> int:
        """The smallest bucket that covers `width` slots."""
        return self.buckets[bisect_left(self.buckets, width)]


def fill_inputs(
    inputs: Mapping[str, NDArray[Any]], piece: Piece, decide: NDArray[np.int32], inverse_temperature: float
) -> None:
    """Write a piece into a run's inputs; `noise` and `noise_rows` are left to the caller."""
    width = piece.cached.shape[1]
    inputs["tokens"][:] = piece.tokens
    inputs["positions"][...] = piece.positions if piece.seen is None else piece.seen.axes
    if "pictured" in inputs:
        inputs["pictured"][:] = False if piece.seen is None else piece.seen.pictured
        inputs["features"][:] = 0.0 if piece.seen is None else piece.seen.features
    inputs["cached"][:, :width] = piece.cached
    inputs["cached"][:, width:] = False
    inputs["among"][:] = piece.among
    inputs["decide"][:] = decide
    inputs["inverse_temperature"][...] = inverse_temperature
