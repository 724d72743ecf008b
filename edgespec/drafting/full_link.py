"""Whether the link is full: it cannot carry what goes over it, and its round trip grows and grows."""

import math

from edgespec.core.measurements import Measurements

CONGESTED, CONGESTED_FORWARDS = 4.0, 8.0
"""A link is full when its round trip has grown to this multiple of the shortest, and to this many forwards."""

SAMPLES = 3
"""New measurements of the round trip, each longer than the last, that must say so: a single one may be a hiccup, from
which a smoothed figure falls back slowly."""


class FullLink:
    """reason: why the link counts as full, in words; empty where it does not. rests_until: the forward until which."""

    def __init__(self) -> None:
        self.reason = ""
        self._least_rtt_ms = math.inf
        self._rtt_ms = 0.0
        self._samples = 0
        self.rests_until = 0

    def update(self, measurements: Measurements, rest_forwards: int) -> bool:
        """Whether it is full; it counts so for `rest_forwards` after it was last seen to be."""
        rtt_ms, forward_ms = measurements.rtt_ms or 0.0, measurements.forward_ms(1)
        self._least_rtt_ms = min(self._least_rtt_ms, rtt_ms or math.inf)
        full = rtt_ms > CONGESTED * self._least_rtt_ms and 0 < CONGESTED_FORWARDS * forward_ms < rtt_ms
        self._samples = self._samples + (rtt_ms > self._rtt_ms) if full else 0
        self._rtt_ms = rtt_ms
        if self._samples >= SAMPLES or (self.reason and full):
            self.rests_until = measurements.forwards + rest_forwards
            self.reason = (
                f"the link is full: a round trip took {self._least_rtt_ms:.0f} ms and takes {rtt_ms:.0f} ms now, "
                "so nothing is drafted or hinted for a while"
            )
        elif measurements.forwards >= self.rests_until:
            self.reason = ""
        return bool(self.reason)
