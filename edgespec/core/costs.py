"""What runs and tokens cost in milliseconds, as measured, and how well that is known. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

USUAL_TOKEN_DEVIATION = 1.0
"""Before much was seen, a forward's time a token is taken to deviate from its mean by this share: forwards commit one
token or several."""


def least_worth(before_ms: float, after_ms: float, expected: float) -> float:
    """What one more row must be expected to bring, to be worth its time in a run that brings `expected` and would take
    `before_ms`, and with the row `after_ms`: relatively more than it adds to the time. 0 where it adds none.

    The one rule for rows of a forward and of the draft: it makes what is expected a millisecond the most.
    """
    more_ms = after_ms - before_ms
    return more_ms * expected / after_ms if more_ms > 0 else 0.0


@dataclass
class LinearCost:
    """Milliseconds of a run by its rows: a line fitted to what was seen, the newest weighing most.

    decay: how much of an observation's weight is left after the next one. usual_row_share: what a further row costs, as
    a share of a run, while few different numbers of rows were seen; it counts as much as one observation of one row
    more. None: nothing is assumed.
    """

    decay: float = 0.97
    usual_row_share: float | None = None
    seen: int = 0
    _weight: float = 0.0
    _rows: float = 0.0
    _ms: float = 0.0
    _rows_rows: float = 0.0
    _rows_ms: float = 0.0
    per_row_ms: float = 0.0
    """What one row more costs; 0 where all runs seen had about the same rows and nothing is assumed."""

    @property
    def known(self) -> bool:
        return self.seen > 0

    def observe(self, rows: int, milliseconds: float) -> None:
        self.seen += 1
        decay = self.decay
        self._weight = self._weight * decay + 1.0
        self._rows = self._rows * decay + rows
        self._ms = self._ms * decay + milliseconds
        self._rows_rows = self._rows_rows * decay + rows * rows
        self._rows_ms = self._rows_ms * decay + rows * milliseconds
        self.per_row_ms = self._slope_ms()

    def _slope_ms(self) -> float:
        spread = self._rows_rows - self._rows**2 / self._weight
        together = self._rows_ms - self._rows * self._ms / self._weight
        if self.usual_row_share is not None:
            return max(0.0, (together + self.usual_row_share * self._ms / self._weight) / (spread + 1.0))
        return 0.0 if spread <= 1e-3 * self._weight else max(0.0, together / spread)

    def __call__(self, rows: int) -> float:
        """The expected milliseconds of a run of `rows` rows; 0 when nothing was seen yet."""
        if not self.known:
            return 0.0
        mean_rows, mean_ms = self._rows / self._weight, self._ms / self._weight
        return max(0.1 * mean_ms, mean_ms + self.per_row_ms * (rows - mean_rows))


@dataclass
class TokenTime:
    """Milliseconds a token at the server, over about the last fifty forwards. seen: how many forwards were observed;
    last_forward: the number of the newest of them."""

    seen: int = 0
    last_forward: int = 0
    _weight: float = 0.0
    _tokens: float = 0.0
    _ms: float = 0.0
    _tokens_tokens: float = 0.0
    _tokens_ms: float = 0.0
    _ms_ms: float = 0.0

    def observe(self, tokens: int, milliseconds: float, forward: int) -> None:
        self.seen += 1
        self.last_forward = forward
        for name, value in (
            ("_weight", 1.0),
            ("_tokens", tokens),
            ("_ms", milliseconds),
            ("_tokens_tokens", tokens * tokens),
            ("_tokens_ms", tokens * milliseconds),
            ("_ms_ms", milliseconds * milliseconds),
        ):
            setattr(self, name, getattr(self, name) * 0.98 + value)

    def __call__(self) -> float:
        """0 when nothing was seen yet."""
        return self._ms / self._tokens if self._tokens else 0.0

    @property
    def error_ms(self) -> float:
        """The standard error of the time a token; infinite while nothing was seen."""
        if not self._tokens:
            return math.inf
        ratio = self._ms / self._tokens
        squares = max(0.0, self._ms_ms - 2 * ratio * self._tokens_ms + ratio**2 * self._tokens_tokens)
        usual_ms = USUAL_TOKEN_DEVIATION * self._ms / self._weight
        return math.sqrt(squares + usual_ms**2) / self._tokens
