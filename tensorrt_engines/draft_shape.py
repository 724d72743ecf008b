"""The sizes of a draft and of one run of its graph, and how a run's inputs are filled. Both runtimes use it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
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

    @property
    def inputs(self) -> Sizes:
        """The inputs of the graph (draft_graph.py), without the noise and the cache."""
        return {
            "tokens": ((self.rows,), np.int32),
            "positions": ((self.rows,), np.int32),
            "cached": ((self.rows, self.bucket), np.bool_),
            "among": ((self.rows, self.rows), np.bool_),
            "decide": ((self.deciding,), np.int32),
            "noise_rows": ((self.deciding,), np.int32),
            "inverse_temperature": ((), np.float32),
        }


@dataclass(frozen=True)
class DraftShape:
    """capacity: slots of the cache. choices: best tokens that a row returns."""

    layers: int
    kv_heads: int
    head_dim: int
    vocabulary_size: int
    capacity: int
    choices: int

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
    inputs["positions"][:] = piece.positions
    inputs["cached"][:, :width] = piece.cached
    inputs["cached"][:, width:] = False
    inputs["among"][:] = piece.among
    inputs["decide"][:] = decide
    inputs["inverse_temperature"][...] = inverse_temperature
