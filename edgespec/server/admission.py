"""Admission: whether a session may begin or go on, before it costs the target anything.

Key-value memory is taken for all that a text may become, so that nobody runs out of it half-way; sessions
that wait for their next turn give theirs up when others need it, and compute it again. What does not fit is
refused with the time after which asking again makes sense.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgespec.model.target_engine import KvFull
from edgespec.server.server_session import ServerSession

IDLE_S = 30.0
"""A session in the middle of a text gives its memory up only after so long without anything to run."""

ADMITTED = 0.7
"""Of a token's target, that forwards may take when a session is let in: prompts need some room beside it."""

UNPROMISED_MS = 1000.0
"""What a session without a target waits for a token at most, where others with targets leave little room."""

RETRY_MS = (100, 30_000)
"""The least and the most that a refused session is told to wait."""


class Overloaded(Exception):
    """There is no room for a session now; `retry_after_ms`: when there may be."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class Admission:
    """Watches over `sessions`. max_sessions: that may be open at once; cost: milliseconds of a forward of so many rows,
    forward_rows at most."""

    def __init__(
        self,
        sessions: Mapping[Any, ServerSession],
        max_sessions: int,
        cost: Callable[[int], float] = lambda rows: 0.0,
        forward_rows: int = 64,
    ) -> None:
        self._sessions = sessions
        self._max_sessions = max_sessions
        self._cost = cost
        self._forward_rows = forward_rows

    @property
    def full(self) -> bool:
        """As many sessions are open as may be."""
        return len(self._sessions) >= self._max_sessions

    def check(self, latency_ms: float | None = None, own: bool = False) -> None:
        """Raise Overloaded where one session more would be too many. latency_ms: its target for a token, None for none;
        own: it asked for that itself."""
        if self.full:
            raise self._overloaded(f"the server has all the {self._max_sessions} sessions that it may hold")
        if own and latency_ms is not None and self.token_ms(1) > ADMITTED * latency_ms:
            raise self._overloaded(
                f"a token takes {self.token_ms(1):.0f} ms to compute even for one session, too long for the "
                f"{latency_ms:g} ms that were asked for"
            )
        working = [s.latency_ms for s in self._sessions.values() if s.verifier.finish is None]
        targets = [target for target in (*working, latency_ms) if target is not None]
        if not targets or not working:
            return
        tightest_ms = min(targets)
        token_ms = self.token_ms(self._rows_within(tightest_ms, [*working, latency_ms]))
        if token_ms > ADMITTED * tightest_ms:
            raise self._overloaded(
                f"with one session more a token would take {token_ms:.0f} ms to compute, and {tightest_ms:g} ms "
                f"in all are promised to the {len(working)} that it serves, or asked for"
            )

    def _rows_within(self, period_ms: float, targets: Sequence[float | None]) -> int:
        """Rows that sessions with these targets need in every such period: with a longer one, not one each."""
        return math.ceil(sum(min(1.0, period_ms / (target or UNPROMISED_MS)) for target in targets) - 1e-9)

    def token_ms(self, sessions: int) -> float:
        """What so many sessions wait for their next verdict, when each has one row of its turn."""
        rounds = -(-sessions // self._forward_rows)
        return rounds * self._cost(min(sessions, self._forward_rows))

    def hold(self, session: ServerSession, slots: int | None = None) -> None:
        """Take memory for a session, so many slots or what its text may need. Raises Overloaded, with nothing
        taken."""
        while True:
            try:
                return session.hold(slots)
            except KvFull as full:
                idle = self._idlest(session)
                if idle is None:
                    raise self._overloaded(
                        f"the key-value memory lacks {full.missing} pages for this session"
                    ) from None
                idle.let_go()

    def _idlest(self, but: ServerSession) -> ServerSession | None:
        """Who can give memory up: the session that has had nothing to run for longest."""
        now_s = time.monotonic()
        idle = [
            session
            for session in self._sessions.values()
            if session is not but
            and session.held
            and not session.verifier.ready
            and (session.verifier.finish is not None or now_s - session.concluded_s > IDLE_S)
        ]
        return min(idle, key=lambda session: session.concluded_s, default=None)

    def _overloaded(self, reason: str) -> Overloaded:
        """With the time until the first of the running texts may end, if all its tokens come one by one."""
        left = [s.verifier.remaining for s in self._sessions.values() if s.verifier.finish is None]
        least, most = RETRY_MS
        retry_ms = round(min(max(min(left, default=0) * self.token_ms(len(left)), least), most))
        return Overloaded(f"the server is full: {reason}; try again later", retry_ms)
