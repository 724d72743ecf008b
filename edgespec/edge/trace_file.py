"""A session's timeline as a file for chrome://tracing or ui.perfetto.dev (the Trace Event Format, JSON)."""

from collections.abc import Sequence
from typing import Any

from edgespec.edge.trace import Event, Lane

LANES: dict[Lane, int] = {"cloud": 1, "down": 2, "up": 3, "edge": 4}


def trace_object(events: Sequence[Event], counts: dict[str, Any]) -> dict[str, Any]:
    """Complete events ("X") in microseconds since the first one, a thread a lane; `counts` go along as metadata."""
    start_s = min((event.start_s for event in events), default=0.0)
    names = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": lane}}
        for lane, number in LANES.items()
    ]
    return {
        "displayTimeUnit": "ms",
        "otherData": counts,
        "traceEvents": names
        + [
            {
                "name": event.kind,
                "cat": event.lane,
                "ph": "X",
                "pid": 1,
                "tid": LANES[event.lane],
                "ts": (event.start_s - start_s) * 1e6,
                "dur": (event.end_s - event.start_s) * 1e6,
                "args": event.detail,
            }
            for event in events
        ],
    }
