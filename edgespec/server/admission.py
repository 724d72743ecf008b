"""Admission: whether a session may begin or go on, before it costs the target anything.

Key-value memory is taken for all that a text may become, so that no session runs out of it half-way. Sessions that wait
for their next turn give theirs up when others need it, and compute it again; so does the device that holds most. A
refusal says when to ask again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgespec import _native
from edgespec.core.shares import TENANT, may_take
from edgespec.model.target_engine import KvFull
from edgespec.server.giving_way import giving_way
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.settings import ServerSettings
from edgespec.verifying.forward_room import rows_within
from edgespec.verifying.scheduler import SLOWED

ADMITTED_SHARE = 0.7
"""How much of a latency target forwards may take when a session is admitted: prompts need some room beside it."""

NO_TARGET_MS = 1000.0
"""The longest that a session without a latency target waits for a token, where others with one leave little room."""

PROMISED_SESSIONS = 8
"""A latency target is promised only if it can be kept for this number of sessions; a token may grant a lower one."""

RETRY_MS = (100, 30_000)
"""The least and the most that a refused session is told to wait."""

ROUNDING = 1e-9
"""Sums of shares of a row are not exact."""


@dataclass(frozen=True)
class Asker:
    """Who opens a session. holders: its device and its tenant, in whose shares it counts; none: nobody knows who it is.
    granted_ms: the lowest latency target that its token grants."""

    holders: frozenset[str] = frozenset()
    granted_ms: float | None = None


@dataclass(frozen=True)
class Running:
    """A session that has something to do: in whose shares it counts, and its latency target, while it can be kept."""

    holders: frozenset[str]
    target_ms: float | None


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
        """Admit a session that asks for this latency target, where there is room for one; returns the target that it
        has. None: none. Raises Refused."""
        latency_ms = _target_ms(self.settings, asked_ms, low_priority, asker)
        if asked_ms is not None:
            self._check_cost(asked_ms, asker)
        self._check_targets(latency_ms, asker)
        return latency_ms

    @property
    def promised(self) -> float:
        """Of the latency that may be promised, the share that is; 0 where no session has a target."""
        token_ms, tightest_ms = self._tightest(self._running())
        return token_ms / (ADMITTED_SHARE * tightest_ms)

    def check_room(self) -> None:
        """Raises Refused where the server has all the sessions that it may hold."""
        if self.full:
            raise self._overloaded(f"it has all the {self.settings.max_sessions} sessions that it may hold")

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
        """Take memory for this many slots (None: for what its text may need). Raises Refused, with no more taken, and
        nobody gives way in vain."""
        while True:
            try:
                return session.reserve(slots)
            except KvFull as full:
                others = [one for one in self.sessions.values() if one is not session and one.reserved]
                giving = giving_way(session, slots or session.slots_needed, full.missing_slots, others)
                if not giving:
                    raise self._overloaded(
                        f"the key-value memory lacks {full.missing_slots} slots for this session"
                    ) from None
                for one in giving:
                    one.release()

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

    def _check_targets(self, latency_ms: float | None, asker: Asker) -> None:
        """With one session more, the tightest target must still be kept, and others find room beside one holder's
        sessions."""
        running = self._running()
        token_ms, tightest_ms = self._tightest(running, latency_ms)
        if not running or tightest_ms == math.inf:
            return
        if token_ms > ADMITTED_SHARE * tightest_ms:
            raise self._overloaded(
                f"with one session more a token would take {token_ms:.0f} ms to compute, and {tightest_ms:g} ms "
                f"in all are promised to the {len(running)} that it serves, or asked for"
            )
        if asker.granted_ms is not None:
            return
        most = rows_within(ADMITTED_SHARE * tightest_ms, 0, self.settings.max_sessions, self.token_ms)
        for holder in asker.holders:
            rows = sum(_rows_needed(tightest_ms, one.target_ms) for one in running if holder in one.holders)
            held = math.ceil(rows - ROUNDING)
            too_many = not holder.startswith(TENANT) and held >= self._rows_of_a_device(tightest_ms)
            if too_many or not may_take(held, self._rows_of_all(running, tightest_ms), most):
                raise self._overloaded(
                    f"beside what {holder} has, others need the rest of the {tightest_ms:g} ms that a token may take"
                )

    def _rows_of_a_device(self, period_ms: float) -> int:
        """Rows that the scheduler leaves a device in such a period while another one has a row in every forward; 1 at
        least."""
        forward_ms = SLOWED * self.cost(1)
        beside_one = rows_within(forward_ms, 1, self.forward_rows, self.cost) - 1
        return max(1, beside_one) * max(1, int(ADMITTED_SHARE * period_ms / forward_ms))

    def _rows_of_all(self, running: Sequence[Running], period_ms: float, *more: float | None) -> int:
        """Rows that all sessions need in such a period, and those with `more` targets; of a device no more than the
        scheduler leaves it, so that its targets keep nobody out."""
        needed: defaultdict[str, float] = defaultdict(float)
        for one in running:
            needed[_device(one.holders)] += _rows_needed(period_ms, one.target_ms)
        most = self._rows_of_a_device(period_ms)
        rows = sum(min(rows, most) if device else rows for device, rows in needed.items())
        return math.ceil(rows + sum(_rows_needed(period_ms, target) for target in more) - ROUNDING)

    def _tightest(self, running: Sequence[Running], *more: float | None) -> tuple[float, float]:
        """Of all sessions and those with `more` targets: how long a token takes for those that the tightest makes run
        together, and that target, both in ms; 0 and infinity where none has one."""
        targets = [*(one.target_ms for one in running), *more]
        tightest_ms = min((target for target in targets if target is not None), default=math.inf)
        if tightest_ms == math.inf:
            return 0.0, math.inf
        return self.token_ms(self._rows_of_all(running, tightest_ms, *more)), tightest_ms

    def _running(self) -> list[Running]:
        """The sessions that have something to do."""
        return [
            Running(one.holders, self._kept(one))
            for one in self.sessions.values()
            if one.verifier.finish is None
        ]

    def _kept(self, session: ServerSession) -> float | None:
        """Its latency target, while what it was promised on holds; a server that has become slower refuses nobody for
        the sake of a target that it cannot keep."""
        target_ms = session.state.latency_ms
        if target_ms is None:
            return None
        asked = session.holders and not session.granted and target_ms != self.settings.latency_ms
        sessions = PROMISED_SESSIONS if asked else 1
        return target_ms if self.token_ms(sessions) <= ADMITTED_SHARE * target_ms else None

    def _overloaded(self, reason: str) -> Refused:
        """With the time until the first of the running texts may end, if all its tokens come one by one."""
        left = [s.verifier.remaining for s in self.sessions.values() if s.verifier.finish is None]
        least, most = RETRY_MS
        retry_ms = round(min(max(min(left, default=0) * self.token_ms(len(left)), least), most))
        message = f"the server is full: {reason}; try again later"
        return Refused(_native.ErrorCode.OVERLOADED, message, retry_after_ms=retry_ms)


def _target_ms(
    settings: ServerSettings, asked_ms: float | None, low_priority: bool, asker: Asker
) -> float | None:
    """The latency target of a session that asks for this one. Raises Refused where it is lower than is promised."""
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


def _rows_needed(period_ms: float, target_ms: float | None) -> float:
    """Of a session with this target in every such period, on average; one with a longer target needs less than one."""
    return min(1.0, period_ms / (target_ms or NO_TARGET_MS))


def _device(holders: frozenset[str]) -> str:
    """Its name; nothing, where nobody knows who it is."""
    return next((name for name in holders if not name.startswith(TENANT)), "")
