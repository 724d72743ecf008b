"""Admission: whether a session may begin or go on, before it costs the target anything.

Key-value memory is taken for all that a text may become, so that no session runs out of it half-way. Sessions that wait
for their next turn give theirs up when others need it, and compute it again. A refusal says when to ask again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgespec import _native
from edgespec.model.target_engine import KvFull
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.settings import ServerSettings

IDLE_S = 30.0
"""A session in the middle of a text gives its memory up only after it had nothing to run for this long."""

ADMITTED_SHARE = 0.7
"""How much of a latency target forwards may take when a session is admitted: prompts need some room beside it."""

NO_TARGET_MS = 1000.0
"""The longest that a session without a latency target waits for a token, where others with one leave little room."""

RETRY_MS = (100, 30_000)
"""The least and the most that a refused session is told to wait."""


@dataclass(frozen=True)
class Admission:
    """Of one more session beside `sessions`. cost: milliseconds of a forward by its rows, `forward_rows` at most."""

    sessions: Mapping[int, ServerSession]
    settings: ServerSettings
    cost: Callable[[int], float]
    forward_rows: int = 64

    @property
    def full(self) -> bool:
        return len(self.sessions) >= self.settings.max_sessions

    def admit(self, asked_ms: float | None, low_priority: bool = False) -> float | None:
        """Admit a session that asks for this latency target; returns the target that it has. None: none. Raises
        Refused."""
        latency_ms = self._target_ms(asked_ms, low_priority)
        if self.full:
            raise self._overloaded(f"it has all the {self.settings.max_sessions} sessions that it may hold")
        token_ms = self.token_ms(1)
        if asked_ms is not None and token_ms > ADMITTED_SHARE * asked_ms:
            raise self._overloaded(
                f"a token takes {token_ms:.0f} ms to compute even for one session, too long for the "
                f"{asked_ms:g} ms that were asked for"
            )
        self._check_targets(latency_ms)
        return latency_ms

    def token_ms(self, sessions: int) -> float:
        """How long this many sessions wait for their next verdict, when each has one row."""
        forwards = -(-sessions // self.forward_rows)
        return forwards * self.cost(min(sessions, self.forward_rows))

    def reserve_memory(self, session: ServerSession, slots: int | None = None) -> None:
        """Take memory for this many slots (None: for what its text may need). Raises Refused, with no more taken."""
        while True:
            try:
                return session.reserve(slots)
            except KvFull as full:
                idle = self._longest_idle(session)
                if idle is None:
                    raise self._overloaded(
                        f"the key-value memory lacks {full.missing} pages for this session"
                    ) from None
                idle.release()

    def _target_ms(self, asked_ms: float | None, low_priority: bool) -> float | None:
        settings = self.settings
        if asked_ms is None:
            return None if low_priority else settings.latency_ms
        least_ms = settings.latency_ms if settings.least_latency_ms is None else settings.least_latency_ms
        if least_ms is not None and asked_ms < least_ms:
            raise Refused(
                _native.ErrorCode.PARAMETER,
                f"this server promises {least_ms:g} ms a token at the least, not {asked_ms:g}: ask for more",
            )
        return asked_ms

    def _check_targets(self, latency_ms: float | None) -> None:
        """With one session more, the tightest target must still be kept."""
        working = [s.state.latency_ms for s in self.sessions.values() if s.verifier.finish is None]
        targets = [target for target in (*working, latency_ms) if target is not None]
        if not targets or not working:
            return
        tightest_ms = min(targets)
        token_ms = self.token_ms(_rows_within(tightest_ms, [*working, latency_ms]))
        if token_ms > ADMITTED_SHARE * tightest_ms:
            raise self._overloaded(
                f"with one session more a token would take {token_ms:.0f} ms to compute, and {tightest_ms:g} ms "
                f"in all are promised to the {len(working)} that it serves, or asked for"
            )

    def _longest_idle(self, but: ServerSession) -> ServerSession | None:
        """The session that can give memory up: it has had nothing to run for longest."""
        now_s = time.monotonic()
        idle = [
            session
            for session in self.sessions.values()
            if session is not but
            and session.reserved
            and not session.verifier.ready
            and (session.verifier.finish is not None or now_s - session.state.concluded_s > IDLE_S)
        ]
        return min(idle, key=lambda session: session.state.concluded_s, default=None)

    def _overloaded(self, reason: str) -> Refused:
        """With the time until the first of the running texts may end, if all its tokens come one by one."""
        left = [s.verifier.remaining for s in self.sessions.values() if s.verifier.finish is None]
        least, most = RETRY_MS
        retry_ms = round(min(max(min(left, default=0) * self.token_ms(len(left)), least), most))
        message = f"the server is full: {reason}; try again later"
        return Refused(_native.ErrorCode.OVERLOADED, message, retry_after_ms=retry_ms)


def _rows_within(period_ms: float, targets: Sequence[float | None]) -> int:
    """Rows that sessions with these targets need in every such period; those with a longer target need fewer."""
    return math.ceil(sum(min(1.0, period_ms / (target or NO_TARGET_MS)) for target in targets) - 1e-9)
