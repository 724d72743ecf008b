"""Whether a forward waits for sessions that are about to be ready. Pure.

Sessions that fell out of step run in forwards of their own, one after the other, each at the price of a whole one. A
short wait brings them together, and together they stay: it is worth as long as the server idles for less than a joint
forward saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

LONGEST = 0.5
"""The server idles for no longer than this share of the forward that could run."""

LOW_PRIORITY = 4.0
"""The same where all that are ready have low priority."""


class BatchingDelay:
    """cost: milliseconds of a forward of so many rows, 0 while nothing is known."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self._cost = cost
        self._rows = 1.0
        self._idle_since_s = 0.0

    def saw_forward(self, sessions: int, rows: int, now_s: float) -> None:
        """A forward has ended."""
        self._rows += 0.1 * (rows / sessions - self._rows)
        self._idle_since_s = now_s

    def hold_s(
        self, ready: int, expected_s: Iterable[float], now_s: float, low_priority: bool = False
    ) -> float:
        """Seconds to hold the forward of `ready` sessions; expected_s: from now, when others will be ready;
        low_priority: all that are ready have it."""
        alone_s = self._seconds(ready)
        longest_s = (LOW_PRIORITY if low_priority else LONGEST) * alone_s
        hold_s = 0.0
        for more, wait_s in enumerate(sorted(expected_s), 1):
            idle_s = now_s + wait_s - self._idle_since_s
            if idle_s > longest_s:
                break
            if low_priority or idle_s < alone_s + self._seconds(more) - self._seconds(ready + more):
                hold_s = wait_s
        return hold_s

    def _seconds(self, sessions: int) -> float:
        return self._cost(round(sessions * self._rows)) / 1e3
