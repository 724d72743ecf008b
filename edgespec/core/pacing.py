"""Pacing: an engine's steps held to a least duration, so that any hardware's proportions can be played on one machine.

`ForwardPacing` holds a target's forward, layer by layer; `DraftPacing` holds one run of a draft. A step that
needed longer than its pace is counted as an overrun: figures from a run with too many of them say nothing. No
torch here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edgespec.core.errors import EdgespecError

SPIN_S = 0.0002
"""A sleep ends this long before its deadline; the rest is spun, since a sleep alone wakes up late."""

TOLERANCE = 0.01
"""A step overran when its work ended later than its pace by more than this share of it."""

VOID_SHARE = 0.02
"""A measurement in which more than this share of the steps overran is void."""


class _Paced:
    """Steps that last at least a given time, and how many of them needed longer."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.steps = 0
        self.overruns = 0
        self._clock = clock
        self._sleep = sleep
        self._start_s = 0.0

    @property
    def void(self) -> bool:
        """Too many steps overran for the measurement to count."""
        return self.overruns > VOID_SHARE * self.steps

    def _hold(self, until_s: float) -> None:
        while (left_s := until_s - self._clock()) > SPIN_S:
            self._sleep(left_s - SPIN_S)
        while self._clock() < until_s:
            pass

    def _finish(self, length_s: float) -> None:
        self.steps += 1
        self.overruns += self._clock() - self._start_s > length_s * (1 + TOLERANCE)
        self._hold(self._start_s + length_s)


class ForwardPacing(_Paced):
    """The pace of a target's forwards: `begin`, `reach` at each exit, `end`.

    forward_ms: of a forward of up to `rows` rows; more rows cost in proportion.
    clock, sleep: seconds, as time.monotonic and time.sleep.
    """

    def __init__(
        self,
        forward_ms: float,
        rows: int = 32,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(clock, sleep)
        self.forward_ms = _positive("the pace of a forward", forward_ms)
        self.rows = int(_positive("the rows of a pace", rows))
        self._length_s = 0.0

    def length_ms(self, rows: int) -> float:
        """The pace of a forward of `rows` rows."""
        return self.forward_ms * max(1.0, rows / self.rows)

    def begin(self, rows: int) -> None:
        """A forward of `rows` rows starts now."""
        self._length_s = self.length_ms(rows) / 1e3
        self._start_s = self._clock()

    def reach(self, fraction: float) -> None:
        """Return when this fraction of the forward's pace has passed, or at once when it has."""
        self._hold(self._start_s + fraction * self._length_s)

    def end(self) -> None:
        """The forward's work is done: return when its pace has passed."""
        self._finish(self._length_s)


class DraftPacing(_Paced):
    """The pace of a draft's runs: `begin`, then `hold`.

    run_ms: a run on one row; each further row adds the share `extra_row` of it.
    """

    def __init__(
        self,
        run_ms: float,
        extra_row: float = 0.10,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(clock, sleep)
        self.run_ms = _positive("the pace of a draft's run", run_ms)
        self.extra_row = extra_row

    def begin(self) -> None:
        """A run starts now."""
        self._start_s = self._clock()

    def hold(self, rows: int) -> None:
        """The run's work on `rows` rows is done: return when its pace has passed."""
        self._finish(self.run_ms / 1e3 * (1 + self.extra_row * max(0, rows - 1)))


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise EdgespecError(f"{name} must be a number above 0, not {value}: leave it out for an unpaced run.")
    return value
