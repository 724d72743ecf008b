"""Whether exits are worth their time in a forward that several sessions share. Pure.

A hint saves its own device some waiting; the time that it takes delays every session of the forward. A session that
runs alone leaves that to its policy. In a shared forward exits run where they are measured to add little.

One forward whose exits took far too long (other work has the cores) keeps exits away from the next few: the device that
asked for them notices only a round trip later.
"""

from __future__ import annotations

from edgespec.core.costs import LinearCost

LARGEST_SHARE = 0.08
"""What exits may add to a shared forward, as a share of it."""

EXPLORE = 32
"""Once in this many forwards the other choice is tried, so that the measurements stay current."""

RUINOUS_SHARE, RUINOUS_MS = 0.5, 5.0
"""Exits are left out for a while when they add more than this share, and more than these milliseconds, to a forward."""

PAUSE_FORWARDS, KNOWN_FORWARDS = 4, 4
"""How long they are then left out; and forwards without exits after which it is known what one takes."""


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
        plain_ms = self._without(rows)
        added_ms = milliseconds - plain_ms if exits and self._without.seen >= KNOWN_FORWARDS else 0.0
        if added_ms > max(RUINOUS_MS, RUINOUS_SHARE * plain_ms):
            self._pause = PAUSE_FORWARDS
        (self._with if exits else self._without).observe(rows, milliseconds)
