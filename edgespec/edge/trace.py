"""A session's timeline: what edge, link and cloud did when; and as a file for ui.perfetto.dev."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgespec.core.messages import Hint, Verdict

Lane = Literal["edge", "up", "down", "cloud"]
Kind = Literal["draft", "block", "hint", "verdict", "forward", "wait"]


@dataclass(frozen=True)
class Event:
    """One thing that happened, on the edge's monotonic clock (seconds).

    What happened at the server is placed by the edge: a verdict's forward ended half a round trip before it came.
    """

    lane: Lane
    kind: Kind
    start_s: float
    end_s: float
    detail: dict[str, object] = field(default_factory=dict)


class Timeline:
    """events: takes what happens."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._one_way_s = 0.0

    def drafted(self, start_s: float, end_s: float, nodes: int) -> None:
        self._record("edge", "draft", start_s, end_s, nodes=nodes)

    def sent(self, now_s: float, nodes: int) -> None:
        self._record("up", "block", now_s, now_s + self._one_way_s, nodes=nodes)

    def received(
        self, now_s: float, message: Hint | Verdict, rtt_ms: float | None, sources: Sequence[str] = ()
    ) -> None:
        """sources: of a verdict's tokens (see `Speculator`)."""
        self._one_way_s = (rtt_ms or 0.0) / 2e3
        sent_s = now_s - self._one_way_s
        if isinstance(message, Hint):
            self._record("down", "hint", sent_s, now_s, layer=message.layer, confidence=message.confidence)
            return
        tokens, start_s = len(message.tokens), sent_s - message.forward_ms / 1e3
        self._record("cloud", "forward", start_s, sent_s, rows=message.rows, tokens=tokens)
        self._record("down", "verdict", sent_s, now_s, tokens=tokens, sources=list(sources))

    def _record(self, lane: Lane, kind: Kind, start_s: float, end_s: float, **detail: object) -> None:
        self._events.append(Event(lane, kind, start_s, end_s, detail))


LANES: dict[Lane, int] = {"cloud": 1, "down": 2, "up": 3, "edge": 4}
"""Threads of the file."""


def trace_object(events: Sequence[Event], counts: dict[str, Any]) -> dict[str, Any]:
    """The timeline in the Trace Event Format (JSON), in microseconds since the first event; `counts` go along."""
    start_s = min((event.start_s for event in events), default=0.0)
    entries: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": lane}}
        for lane, number in LANES.items()
    ]
    for event in events:
        times = {"ts": (event.start_s - start_s) * 1e6, "dur": (event.end_s - event.start_s) * 1e6}
        place = {"name": event.kind, "cat": event.lane, "ph": "X", "pid": 1, "tid": LANES[event.lane]}
        entries.append({**place, **times, "args": event.detail})
    return {"displayTimeUnit": "ms", "otherData": counts, "traceEvents": entries}
