"""Pacing: an engine's steps held to a least duration, so that any hardware's proportions can be played on one machine.

A step that needed longer than its pace is counted as an overrun: figures from a run with too many of them say nothing.
"""

from __future__ import annotations

import math
import time

from edgespec.core.errors import EdgespecError

SPIN_S = 0.0002
"""A sleep ends this long before its deadline; the rest is spun, since a sleep alone wakes up late."""

TOLERANCE = 0.01
"""A step overran when its work ended later than its pace by more than this share of it."""

VOID_SHARE = 0.02
"""A measurement in which more than this share of the steps overran is void."""

EXTRA_ROW = 0.10
"""What each further row adds to a run of a draft, as a share of the first."""


class _Pacing:
    """Steps that last at least `length_ms`, and how many of them needed longer: `begin`, then `end`."""

    def __init__(self, step_ms: float) -> None:
        if not (math.isfinite(step_ms) and step_ms > 0):
            raise EdgespecError(
                f"a pace must be a number above 0, not {step_ms}: leave it out for an unpaced run."
            )
        self.step_ms = step_ms
        self.steps = self.overruns = 0
        self._start_s = self._length_s = 0.0

    def length_ms(self, rows: int) -> float:
        raise NotImplementedError

    def begin(self, rows: int) -> None:
        """A step on `rows` rows starts now."""
        self._length_s = self.length_ms(rows) / 1e3
        self._start_s = time.monotonic()

    def reach(self, fraction: float) -> None:
        """Return when this fraction of the step's pace has passed, or at once when it has."""
        until_s = self._start_s + fraction * self._length_s
        while (left_s := until_s - time.monotonic()) > SPIN_S:
            time.sleep(left_s - SPIN_S)
        while time.monotonic() < until_s:
            pass

    def end(self) -> None:
        """The step's work is done: return when its pace has passed."""
        self.steps += 1
        self.overruns += time.monotonic() - self._start_s > self._length_s * (1 + TOLERANCE)
        self.reach(1.0)


class ForwardPacing(_Pacing):
    """The pace of a target's forwards: `forward_ms` up to `rows` rows, and in proportion beyond. `reach` each exit."""

    def __init__(self, forward_ms: float, rows: int = 32) -> None:
        super().__init__(forward_ms)
        if rows < 1:
            raise EdgespecError(f"the rows of a pace must be a number above 0, not {rows}.")
        self.rows = rows

    def length_ms(self, rows: int) -> float:
        return self.step_ms * max(1.0, rows / self.rows)


class DraftPacing(_Pacing):
    """The pace of a draft's runs, in milliseconds of a run on one row."""

    def length_ms(self, rows: int) -> float:
        return self.step_ms * (1 + EXTRA_ROW * max(0, rows - 1))
