"""A simulated clock, its events, and links that keep their order. Milliseconds. Pure."""

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

    def link(self, delay_ms: Callable[[], float]) -> Callable[[Event], None]:
        """One way of a link: an event that is sent happens after `delay_ms()`, behind all that were sent before."""
        last_ms = 0.0

        def send(arrive: Event) -> None:
            nonlocal last_ms
            last_ms = max(last_ms, self.now_ms + delay_ms())
            self.at(last_ms, arrive)

        return send
