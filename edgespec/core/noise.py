"""Rows of sampling noise: g(seed, position, token) for whole vocabularies, kept for the positions used last.

Edge and server draw the same rows from the same counters; a position is asked for again and again while its
alternatives are drafted and verified. Numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgespec import _native

MASKED = -1e9
"""Noise of ids that must not be drafted: no score outweighs it, and differences of scores stay finite."""


class NoiseRows:
    """Gumbel noise by (seed, position). capacity: rows of 4 · vocabulary_size bytes that are kept."""

    def __init__(self, vocabulary_size: int, capacity: int = 64) -> None:
        self.vocabulary_size = vocabulary_size
        self.capacity = capacity
        self._table = np.empty((capacity, vocabulary_size), dtype=np.float32)
        self._row_of: dict[tuple[int, int], int] = {}

    def rows(self, seed: int, positions: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """The noise for int [R] positions: float32 [P, V] of the P different ones, in the order in which they
        first come, and the row [R] that each position uses."""
        wanted: list[int] = np.asarray(positions).tolist()
        row_of = {position: row for row, position in enumerate(dict.fromkeys(wanted))}
        which = np.array([row_of[position] for position in wanted], dtype=np.intp)
        if len(row_of) <= self.capacity:
            return self._table[self._kept(seed, list(row_of))], which
        noise = np.empty((len(row_of), self.vocabulary_size), dtype=np.float32)
        _native.fill_gumbel(seed, np.array(list(row_of), dtype=np.int32), noise)
        return noise, which

    def _kept(self, seed: int, positions: list[int]) -> list[int]:
        """The table's rows that hold these positions, drawn where they are missing; they are the last to be
        dropped."""
        keys = [(seed, position) for position in positions]
        found = {key: self._row_of.pop(key) for key in keys if key in self._row_of}
        for key in keys:
            if key not in found:
                row = self._free_row(len(found))
                _native.fill_gumbel(seed, np.array([key[1]], dtype=np.int32), self._table[row : row + 1])
                found[key] = row
        self._row_of.update(found)
        return [found[key] for key in keys]

    def _free_row(self, taken: int) -> int:
        used = len(self._row_of) + taken
        return used if used < self.capacity else self._row_of.pop(next(iter(self._row_of)))
