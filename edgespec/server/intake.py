"""How long the server takes messages in before its next forward: a share of a forward, however many wait. Pure.

Of several devices that write, one by itself takes no more than an equal part of that time.
"""

from __future__ import annotations

from collections.abc import Hashable, Set

SHARE = 0.1
"""Of the time of the last forward: messages that come without end slow down the sessions that run by this share."""

LEAST_S, MOST_S = 0.0002, 0.004

BATCH_EVENTS, BATCH_NODES = 32, 512
"""Of a batch, of which one is always taken in; an OPEN or APPEND counts as 16 events and more
(csrc/bindings/batch.cpp)."""


class Intake:
    """One intake. forward_s: how long the last forward took. devices: how many have a text that is being written."""

    def __init__(self, forward_s: float, devices: int) -> None:
        self._left_s = min(max(SHARE * forward_s, LEAST_S), MOST_S)
        self._equal_s = self._left_s / max(1, devices)
        self._taken_s: dict[Hashable, float] = {}

    def goes_on(self, seconds: float, devices: Set[Hashable]) -> bool:
        """Whether there is time for another batch, after one of these devices took so long. Devices take turns: a batch
        of one device alone shows that no other has sent anything."""
        self._left_s -= seconds
        if len(devices) == 1:
            (device,) = devices
            taken_s = self._taken_s[device] = self._taken_s.get(device, 0.0) + seconds
            if taken_s >= self._equal_s:
                return False
        return self._left_s > 0
