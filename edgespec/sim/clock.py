"""A simulated clock, its events, and a link that keeps byte order. Milliseconds. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Event = Callable[[], None]


class Clock:
    """Runs events in the order of their times; those of one time in the order in which they were added."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._count = 0

    def at(self, time_ms: float, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._events, (time_ms, self._count, event))

    def after(self, delay_ms: float, event: Event) -> None:
        self.at(self.now_ms + delay_ms, event)

    def run_next(self) -> bool:
        """Move on to the next event and run it; False: there is none."""
        if not self._events:
            return False
        self.now_ms, _, event = heapq.heappop(self._events)
        event()
        return True


class SimulatedLink:
    """One way of a link. delay_ms: of what is sent now."""

    def __init__(self, clock: Clock, delay_ms: Callable[[], float]) -> None:
        self._clock = clock
        self._delay_ms = delay_ms
        self._last_arrival_ms = 0.0

    def send(self, arrive: Event) -> None:
        """Run `arrive` when what is sent now arrives, behind all that was sent before."""
        self._last_arrival_ms = max(self._last_arrival_ms, self._clock.now_ms + self._delay_ms())
        self._clock.at(self._last_arrival_ms, arrive)
