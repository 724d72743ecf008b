"""Writes a session's timeline as things happen; what happened elsewhere is placed half a round trip away."""

from __future__ import annotations

from edgespec import _native
from edgespec.edge.connection import Uplink
from edgespec.edge.trace import Event, Kind, Lane


class Recorder:
    """trace: takes the events; None: nothing is recorded."""

    def __init__(self, trace: list[Event] | None, uplink: Uplink) -> None:
        self._trace = trace
        self._uplink = uplink

    def drafted(self, start_s: float, end_s: float, nodes: int) -> None:
        self._record("edge", "draft", start_s, end_s, nodes=nodes)

    def sent(self, now_s: float, nodes: int) -> None:
        self._record("up", "block", now_s, now_s + self._way_s(), nodes=nodes)

    def hinted(self, now_s: float, hint: _native.Hint) -> None:
        self._record(
            "down", "hint", now_s - self._way_s(), now_s, layer=hint.layer, confidence=hint.confidence
        )

    def committed(self, now_s: float, verdict: _native.Verdict) -> None:
        ended_s, tokens = now_s - self._way_s(), len(verdict.tokens)
        began_s = ended_s - verdict.forward_us / 1e6
        self._record("cloud", "forward", began_s, ended_s, rows=verdict.rows, tokens=tokens)
        self._record("down", "verdict", ended_s, now_s, tokens=tokens)

    def _way_s(self) -> float:
        return (self._uplink.rtt_ms or 0.0) / 2e3

    def _record(self, lane: Lane, kind: Kind, start_s: float, end_s: float, **detail: object) -> None:
        if self._trace is not None:
            self._trace.append(Event(lane, kind, start_s, end_s, detail))
