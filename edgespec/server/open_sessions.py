"""The open sessions of one server: how they begin, wait for edges that are away, and end; in loop, link and log alike.

The listener brings an edge that returns back to its session (csrc/net/listener.hpp). Waiting for it ends after
`resume_for_s`, when its device has too many sessions away, or when another session needs the room.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgespec.server.devices import device_name
from edgespec.server.gate import VOID, Gate
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.verifying.loop import VerifyingLoop

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

log = logging.getLogger("edgespec.server")

MOST_AWAY = 64
"""Sessions of one device that are kept while it is away; of more, the one that has been away longest ends."""


@dataclass
class OpenSessions:
    """table: by their numbers, at the listener and in the loop alike. draining: no further session is opened."""

    loop: VerifyingLoop
    gate: Gate
    resume_for_s: float
    metrics: Metrics | None = None
    table: dict[int, ServerSession] = field(default_factory=dict)
    draining: bool = False

    def add(self, session: ServerSession) -> None:
        self.loop.sessions[session.number] = session.state
        self.table[session.number] = session
        self.gate.audit.record("opened", str(session.state.device), session=session.number)
        if self.metrics is not None:
            self.metrics.record_open(session.statistics)

    def end(self, number: int, reason: str) -> None:
        """The listener forgets the session too, after what was sent to it."""
        self.gate.listener.disconnect(number)
        session = self.table.pop(number, None)
        if session is None:
            return
        del self.loop.sessions[number]
        summary = " ".join(f"{key}={value}" for key, value in session.summary().items())
        log.info('%s reason="%s"', summary, reason)
        self.gate.audit.record("ended", str(session.state.device), session=number, reason=reason)
        session.turn_ends()
        session.release()
        session.close_drafter()
        if self.metrics is not None:
            self.metrics.ended.inc()

    def refuse(self, number: int, refused: Refused, channel: int = 0) -> None:
        """Send the ERROR; the connection or session that it goes to ends."""
        self._record_refusal(number, refused)
        self.gate.listener.send(number, refused.frame(channel))
        if self.metrics is not None:
            self.metrics.refused.labels(refused.code.name.lower()).inc()
        if number in self.gate:
            self.gate.listener.disconnect(number)
        else:
            self.end(number, str(refused))

    def fail(self, number: int, what: str, error: Exception) -> None:
        """Work for a session failed; it ends, and no other session with it."""
        log.error("%s failed; session %d ends", what, number, exc_info=error)
        self.refuse(number, Refused.internal(what, error))

    def away(self, session: ServerSession, now_s: float) -> None:
        """The session's edge has no connection any more."""
        others = [
            number
            for number in self._away_s
            if number != session.number and self.table[number].identity == session.identity
        ]
        session.state.set_away(now_s, len(others))
        if len(others) >= MOST_AWAY:
            self.end(others[0], "its device has too many sessions away")

    @property
    def has_away(self) -> bool:
        """Whether a session could end to make room."""
        return any(session.state.away_since_s is not None for session in self.table.values())

    def make_room(self, holders: frozenset[str] = frozenset()) -> None:
        """End a session whose edge is away, if there is one: of those who ask for room if they have one, else of those
        who have most sessions; the longest away of these."""
        away = list(self._away_s)
        if not away:
            return
        sessions = Counter(session.holder for session in self.table.values())

        def order(number: int) -> tuple[bool, int]:
            session = self.table[number]
            return session.holders.isdisjoint(holders), -sessions[session.holder]

        self.end(min(away, key=order), "another session needs its room")

    def expire(self, now_s: float) -> None:
        """End the sessions that have waited for their edges for `resume_for_s`."""
        for number, since_s in self._away_s.items():
            if since_s + self.resume_for_s <= now_s:
                self.end(number, "its edge did not come back in time")

    def next_expiry_s(self, now_s: float) -> float | None:
        """Seconds until the next session expires; None: none will."""
        since_s = min(self._away_s.values(), default=None)
        return None if since_s is None else max(0.0, since_s + self.resume_for_s - now_s)

    def _record_refusal(self, number: int, refused: Refused) -> None:
        log.info("refused: %s", refused)
        code = refused.code.name.lower()
        if number in self.gate:
            who, address = self.gate.who(number)
            self.gate.audit.record("refused", who, address=address, code=code)
            return
        identity = self.gate.listener.identity(number)
        self.gate.audit.record("refused", device_name(identity or b""), session=number, code=code)

    def end_unknown(self) -> None:
        """End the sessions of devices that may no longer connect."""
        for session in list(self.table.values()):
            if not self.gate.knows(session.identity):
                self.end(session.number, VOID)

    def end_all(self, reason: str) -> None:
        for number in list(self.table):
            self.end(number, reason)

    @property
    def _away_s(self) -> dict[int, float]:
        """Since when the edges of these sessions have been away, the longest away first."""
        since_s = {
            number: session.state.away_since_s
            for number, session in self.table.items()
            if session.state.away_since_s is not None
        }
        return dict(sorted(since_s.items(), key=lambda entry: entry[1]))

    @property
    def unfinished(self) -> int:
        """Sessions whose text is not finished."""
        return sum(session.verifier.finish is None for session in self.table.values())

    def summaries(self) -> list[dict[str, Any]]:
        return [session.summary() for session in self.table.values()]
