"""Whether exits are worth their time in a forward that several sessions share. Pure.

A hint saves its own device some waiting; the time that it takes delays every session of the forward. A session that
runs alone leaves that to its policy. In a shared forward exits run where they are measured to add little.

One forward whose exits took far too long (other work has the cores) keeps exits away from the next few.
"""

from __future__ import annotations

from edgespec.core.costs import LinearCost

LARGEST_SHARE = 0.08
"""What exits may add to a shared forward, as a share of it."""

EXPLORE = 32
"""Once in this many forwards the other choice is tried, so that the measurements stay current."""

PAUSE_FORWARDS, KNOWN_FORWARDS = 4, 4
"""How long exits are left out when they ruined a forward; and forwards without exits after which it is known what one
takes."""


RUINOUS_SHARE, RUINOUS_MS = 0.5, 5.0
"""A forward is ruined by its exits when they add more than this share, and more than these milliseconds, to it."""


class ExitWorth:
    """Costs of forwards with exits and without."""

    def __init__(self) -> None:
        self._with = LinearCost()
        self._without = LinearCost()
        self._forwards = 0
        self._pause = 0

    def __call__(self, sessions: int, rows: int) -> bool:
        """Whether the next forward, of this many sessions and rows, should run its exits."""
        if self._pause:
            return False
        if sessions == 1:
            return True
        if not (self._with.known and self._without.known):
            return not self._with.known
        self._forwards += 1
        worth = self._with(rows) <= (1 + LARGEST_SHARE) * self._without(rows)
        return worth != (self._forwards % EXPLORE == 0)

    def observe(self, exits: bool, rows: int, milliseconds: float) -> None:
        self._pause = max(0, self._pause - 1)
        known = self._without.seen >= KNOWN_FORWARDS
        if exits and known and _ruinous(milliseconds, self._without(rows)):
            self._pause = PAUSE_FORWARDS
        (self._with if exits else self._without).observe(rows, milliseconds)


def _ruinous(milliseconds: float, plain_ms: float) -> bool:
    """Whether a forward took so much longer than the same one without exits."""
    return milliseconds - plain_ms > max(RUINOUS_MS, RUINOUS_SHARE * plain_ms)
