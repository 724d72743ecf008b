"""The forward that is being formed: what it takes so far, and how many more rows fit into it. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Cost = Callable[[int, int | None], float]
"""Milliseconds of a forward by its rows, and by the tokens that these attend to, summed over the rows (None: what a row
attended to lately); 0 while nothing is known."""


@dataclass(frozen=True)
class Bound:
    """How long a forward may take; `rows` rows it may have however long they take."""

    milliseconds: float
    rows: int


@dataclass
class ForwardRoom:
    """rows: that the forward has. attended: tokens that these attend to, summed over the rows."""

    cost: Cost
    rows: int = 0
    attended: int = 0

    @property
    def context(self) -> int:
        """Tokens that a row attends to, on average."""
        return self.attended // self.rows if self.rows else 0

    def add(self, rows: int, context: int) -> None:
        """Rows behind `context` tokens."""
        self.rows += rows
        self.attended += rows * context

    def milliseconds(self, more: int = 0, context: int = 0) -> float:
        """With `more` rows behind `context` tokens."""
        return self.cost(self.rows + more, self.attended + more * context)

    def fits(self, context: int, most: int, bounds: Sequence[Bound]) -> int:
        """How many more rows behind `context` tokens fit, up to `most` rows in all."""
        room = max(0, most - self.rows)
        for bound in bounds:
            if not room or bound.milliseconds == math.inf:
                continue
            least = min(room, max(0, bound.rows - self.rows))
            room = rows_within(bound.milliseconds, least, room, lambda more: self.milliseconds(more, context))
        return room


def rows_within(milliseconds: float, least: int, most: int, cost: Callable[[int], float]) -> int:
    """How many rows of `least` to `most` take no longer than this; `least` where that many do. cost: rises with the
    rows."""
    return least + bisect_right(range(least + 1, most + 1), milliseconds, key=cost)
