"""The open sessions of one server: how they begin, are refused and end, in the loop, the link and the log alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from edgespec.server.gate import VOID, Gate
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.session_table import SessionTable
from edgespec.verifying.loop import VerifyingLoop

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

log = logging.getLogger("edgespec.server")


class OpenSessions:
    """table: by their numbers, at the listener and in the loop alike. draining: no further session is opened."""

    def __init__(
        self, loop: VerifyingLoop, gate: Gate, resume_for_s: float, metrics: Metrics | None = None
    ) -> None:
        self.table: SessionTable[ServerSession] = SessionTable(resume_for_s)
        self.draining = False
        self._loop = loop
        self._gate = gate
        self._metrics = metrics

    def add(self, session: ServerSession, identity: Hashable) -> None:
        self._loop.open(session.state)
        self.table.add(session.number, identity, session)
        if self._metrics is not None:
            self._metrics.record_open(session.statistics.prompt_tokens, session.memory.adopted)

    def end(self, number: int, reason: str) -> None:
        """The listener forgets the session too, after what was sent to it."""
        self._gate.listener.disconnect(number)
        self._loop.close(number)
        session = self.table.remove(number)
        if session is None:
            return
        summary = " ".join(f"{key}={value}" for key, value in session.summary().items())
        log.info('%s reason="%s"', summary, reason)
        session.memory.release()
        session.close_drafter()
        if self._metrics is not None:
            self._metrics.record_end()

    def refuse(self, number: int, refused: Refused, channel: int = 0) -> None:
        """Send the ERROR; the connection or session that it goes to ends."""
        log.info("refused: %s", refused.message)
        self._gate.listener.send(number, refused.frame(channel))
        if self._metrics is not None:
            self._metrics.record_refusal(refused.code.name)
        if number in self._gate:
            self._gate.listener.disconnect(number)
        else:
            self.end(number, refused.message)

    def fail(self, number: int, what: str, error: Exception) -> None:
        """Work for a session failed; it ends, and no other session with it."""
        log.error("%s failed; session %d ends", what, number, exc_info=error)
        self.refuse(number, Refused.internal(what, error))

    # Edges that are away

    def away(self, number: int) -> None:
        """The session's edge has no connection any more."""
        self._loop.set_away(number, True)
        if (ended := self.table.away(number, time.monotonic())) is not None:
            self.end(ended, "its device has too many sessions away")

    def returned(self, number: int) -> None:
        self._loop.set_away(number, False)
        self.table.returned(number)

    def make_room(self) -> None:
        """End the session whose edge has been away for longest, if there is one."""
        if (number := self.table.longest_away()) is not None:
            self.end(number, "another session needs its room")

    def expire(self) -> None:
        for number in self.table.expired(time.monotonic()):
            self.end(number, "its edge did not come back in time")

    def end_unknown(self) -> None:
        """End the sessions of devices that may no longer connect."""
        for number in self.table.of_devices_but(self._gate.knows):
            self.end(number, VOID)

    def end_all(self, reason: str) -> None:
        for number in list(self.table):
            self.end(number, reason)

    @property
    def unfinished(self) -> int:
        """Sessions whose text is not finished."""
        return sum(session.verifier.finish is None for session in self.table.values())

    def summaries(self) -> list[dict[str, Any]]:
        return [session.summary() for session in self.table.values()]
