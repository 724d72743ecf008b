"""What a forward costs in milliseconds, by its rows and by the tokens that these attend to, as measured. Pure.

Where attention is slow, as on a CPU, a row behind a long text costs several rows behind a short one. Who shares a
forward must see that, or long texts look free.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgespec.core.costs import LinearCost

ATTENTION_DECAY = 0.995
"""How much of a forward's weight is left after the next one, where attention is learnt: texts grow slowly."""

ASSUMED_FREE = 1000
"""Attention is assumed to cost nothing, with the weight of one forward that has this many tokens more than usual."""


@dataclass
class ForwardCost:
    """attended: the tokens in front of each row, summed over the rows.

    By least squares over many forwards it learns what a token costs; a line over the newest ones, by rows, is fitted to
    the rest (`LinearCost`).
    """

    token_ms: float = 0.0
    """Of one token that one row attends to."""
    _line: LinearCost = field(default_factory=LinearCost)
    _weight: float = 0.0
    _mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """Of rows, attended tokens and milliseconds."""
    _products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    """Of their deviations from the mean, summed."""

    @property
    def seen(self) -> int:
        return self._line.seen

    def observe(self, rows: int, attended: int, milliseconds: float) -> None:
        kept = self._weight * ATTENTION_DECAY
        self._weight = kept + 1.0
        deviation = np.array([rows, attended, milliseconds]) - self._mean
        self._mean += deviation / self._weight
        self._products *= ATTENTION_DECAY
        self._products += kept / self._weight * np.outer(deviation, deviation)
        self.token_ms = self._fitted_token_ms()
        self._line.observe(rows, milliseconds - self.token_ms * attended)

    def __call__(self, rows: int, attended: int | None = None) -> float:
        """The expected milliseconds; 0 when nothing was seen yet. attended: None: what a row attended to lately."""
        if attended is None:
            attended = round(rows * self._mean[1] / self._mean[0]) if self.seen else 0
        return self._line(rows) + self.token_ms * attended

    def _fitted_token_ms(self) -> float:
        """Of the plane through what was seen. Neither a row nor a token takes less than no time."""
        rr, ra, rm, aa, am = (
            float(self._products[pair]) for pair in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2))
        )
        aa += ASSUMED_FREE**2
        if rm * aa <= am * ra:  # rows are all alike, or take no time of their own
            return max(0.0, am / aa)
        return max(0.0, (rr * am - ra * rm) / (rr * aa - ra * ra))
