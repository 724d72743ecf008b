"""Whether a forward waits for sessions that are about to be ready. Pure.

Sessions that fell out of step run in separate forwards, one after the other, each at the price of a whole one. A short
wait brings them together, and together they stay. It pays as long as the server idles for less than a joint forward
saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOW_PRIORITY_SHARE = 4.0
"""The longest wait where only low-priority sessions are ready, in forwards."""

LONGEST_SHARE = 0.5
"""The longest wait otherwise, as a share of the forward that could run."""


@dataclass
class BatchingDelay:
    """cost: milliseconds of a forward by its rows, 0 while nothing is known."""

    cost: Callable[[int], float]
    _rows: float = 1.0
    _idle_since_s: float = 0.0

    def observe(self, sessions: int, rows: int, now_s: float) -> None:
        """A forward has ended."""
        self._rows += 0.1 * (rows / sessions - self._rows)
        self._idle_since_s = now_s

    def wait_s(
        self, ready: int, expected_s: Iterable[float], now_s: float, low_priority: bool = False
    ) -> float:
        """Seconds to delay the forward of `ready` sessions. expected_s: from now, when others will be ready;
        low_priority: all those ready are."""
        alone_s = self._seconds(ready)
        longest_s = (LOW_PRIORITY_SHARE if low_priority else LONGEST_SHARE) * alone_s
        delay_s = 0.0
        for more, wait_s in enumerate(sorted(expected_s), 1):
            idle_s = now_s + wait_s - self._idle_since_s
            if idle_s > longest_s:
                break
            if low_priority or idle_s < alone_s + self._seconds(more) - self._seconds(ready + more):
                delay_s = wait_s
        return delay_s

    def _seconds(self, sessions: int) -> float:
        return self.cost(round(sessions * self._rows)) / 1e3
