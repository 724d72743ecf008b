"""Whether `auto` asks for hints: they are tried one forward at a time, then kept if they gain more than exits cost.

A trial spends at most TRIAL_SHARE of the time: one bad forward ends it, and it goes on when that has been earned back.
"""

import math

from edgespec.core.calibration_ratios import SURE
from edgespec.core.measurements import Measurements

PLAIN_FORWARDS = 8
"""Forwards without hints before a trial begins."""

TRIAL_FORWARDS = 3
"""Forwards with hints, at least, before the cost of exits is judged."""

TRIAL_SHARE = 0.02
"""What a trial may cost, as a share of the time so far."""

USUAL_COST = 0.1
"""What exits are taken to add to a forward until that is measured."""

HINT_GAIN, HINT_RANGE = 0.05, 1.4
"""What hints gain with no round trip, in simulations of the bundled pair; the gain falls to nothing at a round trip of
this many forwards."""

KEEPING = 0.01
"""A gain must exceed the cost by this much to change what is."""

ROWS = 4
"""Rows of a usual forward, at which costs are compared."""


class HintChoice:
    """on: hints are worth asking for. trial: they are on only to find out. reason: why, in words."""

    def __init__(self) -> None:
        self.on = self.trial = False
        self.reason = ""

    def stop(self) -> None:
        """Something else forbids hints for now."""
        self.on = self.trial = False

    def update(self, measurements: Measurements) -> None:
        plain = measurements.plain_forward_ms
        plain_ms, rtt_ms = plain(ROWS), measurements.rtt_ms or 0.0
        hints = measurements.calibration_ratios.hints
        gain = HINT_GAIN * (1 - rtt_ms / (HINT_RANGE * plain_ms)) if plain_ms else 0.0
        self.trial = False
        if plain_ms and gain <= 0:
            self._set(False, f"off: too late after {rtt_ms / plain_ms:.1f} forwards of a round trip")
        elif hints.most_ratio < 0.5:
            self._set(False, f"off: only {hints.ratio:.0%} of what they promised came true")
        elif plain.seen < PLAIN_FORWARDS:
            self._set(False, "off until plain forwards are measured")
        elif not plain_ms:
            self._set(False, "off: a forward takes no time that a hint could save")
        else:
            self._compare(measurements, gain, plain_ms, rtt_ms)

    def _compare(self, measurements: Measurements, gain: float, plain_ms: float, rtt_ms: float) -> None:
        plain, hinted = measurements.plain_forward_ms, measurements.hinted_forward_ms
        cost = hinted(ROWS) / plain_ms - 1 if hinted.known else USUAL_COST
        error = math.hypot(plain.error_ms, hinted.error_ms) / plain_ms
        sure = abs(gain - cost) > SURE * error
        worth = f"worth about {gain:.1%} at {rtt_ms:.0f} ms round trip"
        measured = f"{worth}, and exits cost {max(0.0, cost):.1%} of a forward"
        if hinted.seen >= TRIAL_FORWARDS and sure:
            on = gain + (KEEPING if self.on else -KEEPING) > cost
            self._set(on, f"{'on' if on else 'off'}: {measured}")
            return
        spent, one_more = hinted.seen * max(0.0, cost), max(USUAL_COST, cost)
        self.trial = spent + one_more <= TRIAL_SHARE * measurements.forwards
        dear = f"off: a trial would cost more than {TRIAL_SHARE:.0%} of the text so far; {measured}"
        self._set(self.trial, "on for a trial" if self.trial else dear)

    def _set(self, on: bool, reason: str) -> None:
        self.on, self.reason = on, reason
