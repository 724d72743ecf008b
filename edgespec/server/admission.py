"""Admission: whether a session may begin or go on, before it costs the target anything.

Key-value memory is taken for all that a text may become, so that no session runs out of it half-way. Sessions that wait
for their next turn give theirs up when others need it, and compute it again; so does the device that holds most. A
refusal says when to ask again.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgespec import _native
from edgespec.model.target_engine import KvFull
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.settings import ServerSettings
from edgespec.server.shares import may_take, must_give

IDLE_S = 30.0
"""A session in the middle of a text gives its memory up only after it had nothing to run for this long."""

ADMITTED_SHARE = 0.7
"""How much of a latency target forwards may take when a session is admitted: prompts need some room beside it."""

NO_TARGET_MS = 1000.0
"""The longest that a session without a latency target waits for a token, where others with one leave little room."""

PROMISED_SESSIONS = 8
"""A latency target is promised only if it can be kept for this number of sessions; a token may grant a lower one."""

RETRY_MS = (100, 30_000)
"""The least and the most that a refused session is told to wait."""


@dataclass(frozen=True)
class Asker:
    """Who opens a session. holders: its device and its tenant, in whose shares it counts; none: nobody knows who it is.
    granted_ms: the lowest latency target that its token grants."""

    holders: frozenset[str] = frozenset()
    granted_ms: float | None = None


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

    def admit(
        self,
        asked_ms: float | None,
        low_priority: bool = False,
        asker: Asker = Asker(),
    ) -> float | None:
        """Admit a session that asks for this latency target; returns the target that it has. None: none. Raises
        Refused."""
        latency_ms = self._target_ms(asked_ms, low_priority, asker)
        if self.full:
            raise self._overloaded(f"it has all the {self.settings.max_sessions} sessions that it may hold")
        if asked_ms is not None:
            self._check_cost(asked_ms, asker)
        self._check_targets(latency_ms)
        return latency_ms

    @property
    def promised(self) -> float:
        """Of the latency that may be promised, the share that is; 0 where no session has a target."""
        token_ms, tightest_ms = self._tightest(self._working())
        return token_ms / (ADMITTED_SHARE * tightest_ms)

    def check_share(self, asker: Asker) -> None:
        """Raises Refused where the asker's device, or its tenant, has reached its limit of sessions."""
        for holder in asker.holders:
            held = sum(holder in session.holders for session in self.sessions.values())
            if not may_take(
                held, min(len(self.sessions), self.settings.max_sessions - 1), self.settings.max_sessions
            ):
                raise self._overloaded(f"{holder} has {held} sessions, and others need the rest")

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
                gives_way = self._idle(session) or self._of_the_largest(
                    session, slots or session.slots_needed
                )
                if gives_way is None:
                    raise self._overloaded(
                        f"the key-value memory lacks {full.missing} pages for this session"
                    ) from None
                gives_way.release()

    def _target_ms(self, asked_ms: float | None, low_priority: bool, asker: Asker) -> float | None:
        settings = self.settings
        if asked_ms is None:
            return None if low_priority else settings.latency_ms
        least_ms = settings.latency_ms if settings.least_latency_ms is None else settings.least_latency_ms
        if asker.granted_ms is not None:
            least_ms = asker.granted_ms
        if least_ms is not None and asked_ms < least_ms:
            raise Refused(
                _native.ErrorCode.PARAMETER,
                f"this server promises {least_ms:g} ms a token at the least, not {asked_ms:g}: ask for more",
            )
        return asked_ms

    def _check_cost(self, asked_ms: float, asker: Asker) -> None:
        """One device's promise must leave room for others, unless the operator granted it."""
        sessions = PROMISED_SESSIONS if asker.holders and asker.granted_ms is None else 1
        token_ms = self.token_ms(sessions)
        if token_ms > ADMITTED_SHARE * asked_ms:
            whom = "even for one session" if sessions == 1 else f"for {sessions} sessions"
            raise self._overloaded(
                f"a token takes {token_ms:.0f} ms to compute {whom}, too long for the "
                f"{asked_ms:g} ms that were asked for"
            )

    def _check_targets(self, latency_ms: float | None) -> None:
        """With one session more, the tightest target must still be kept."""
        working = self._working()
        token_ms, tightest_ms = self._tightest([*working, latency_ms])
        if working and token_ms > ADMITTED_SHARE * tightest_ms:
            raise self._overloaded(
                f"with one session more a token would take {token_ms:.0f} ms to compute, and {tightest_ms:g} ms "
                f"in all are promised to the {len(working)} that it serves, or asked for"
            )

    def _tightest(self, targets: Sequence[float | None]) -> tuple[float, float]:
        """Of sessions with these targets: how long a token takes for those that the tightest makes run together, and
        that target, both in ms; 0 and infinity where none has one."""
        tightest_ms = min((target for target in targets if target is not None), default=math.inf)
        if tightest_ms == math.inf:
            return 0.0, math.inf
        return self.token_ms(_rows_within(tightest_ms, targets)), tightest_ms

    def _working(self) -> list[float | None]:
        """The latency targets of the sessions that have something to do."""
        return [one.state.latency_ms for one in self.sessions.values() if one.verifier.finish is None]

    def _idle(self, asker: ServerSession) -> ServerSession | None:
        """A session that has nothing to run: the asker's device's own first, then the one that has waited longest."""
        now_s = time.monotonic()
        idle = [
            session
            for session in self._with_memory(asker)
            if not session.verifier.ready
            and (session.verifier.finish is not None or now_s - session.state.concluded_s > IDLE_S)
        ]
        return min(
            idle, key=lambda one: (one.holders.isdisjoint(asker.holders), one.state.concluded_s), default=None
        )

    def _of_the_largest(self, asker: ServerSession, slots: int) -> ServerSession | None:
        """A session of the device that has more than its share of the memory, whatever it does; a device's only one
        is left to it. One that waits goes first, then the one that began last."""
        if not asker.holders:
            return None
        others = [one for one in self._with_memory(asker) if one.holders]
        held = Counter[str]()
        for one in others:
            held[one.holder] += one.slots_needed
        sessions = Counter(one.holder for one in others)
        can_give = [holder for holder, count in sessions.items() if count > 1]
        largest = must_give(held, can_give, asker.holder, slots)
        of_largest = [one for one in others if one.holder == largest]
        return max(
            of_largest, key=lambda one: (not one.verifier.ready, one.statistics.opened_s), default=None
        )

    def _with_memory(self, but: ServerSession) -> Iterable[ServerSession]:
        return (session for session in self.sessions.values() if session is not but and session.reserved)

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
