"""Whether exits are worth their time in a forward that several sessions share. Pure.

A hint spares its own device some waiting; the time that it takes delays everybody. While one session runs alone that
is its policy's business; in company exits run where they cost next to nothing beside the forward, as measured.
"""

from __future__ import annotations

from edgespec.core.measurements import LinearCost

MOST = 0.08
"""What exits may add to a forward that others share."""

EXPLORE = 32
"""Every so many forwards the other choice is tried, so that what is known stays true."""


class ExitWorth:
    """Costs of forwards with exits and without."""

    def __init__(self) -> None:
        self._with = LinearCost()
        self._without = LinearCost()
        self._turn = 0

    def __call__(self, sessions: int, rows: int) -> bool:
        """Whether the next forward, of so many sessions and rows, shall run its exits."""
        if sessions == 1:
            return True
        if not (self._with.known and self._without.known):
            return not self._with.known
        self._turn += 1
        worth = self._with(rows) <= (1 + MOST) * self._without(rows)
        return worth != (self._turn % EXPLORE == 0)

    def saw_forward(self, exits: bool, rows: int, milliseconds: float) -> None:
        (self._with if exits else self._without).observe(rows, milliseconds)
