"""Which sessions give their key-value memory up when another one needs it; they compute it again.

First those that have nothing to run. Then those of the device that holds most, whatever they do, as long as that is
more than its share; a device's only session is left to it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from edgespec.core.shares import must_give
from edgespec.server.server_session import ServerSession

IDLE_S = 30.0
"""A session in the middle of a text gives its memory up only after it had nothing to run for this long."""


def giving_way(
    asker: ServerSession, slots: int, missing: int, others: Sequence[ServerSession]
) -> list[ServerSession]:
    """Sessions of `others`, which have memory, that have the `missing` of the `slots` that are asked for; none where
    those that may give way have less. Takes a time that is about linear in their number."""
    if sum(one.cache.slots for one in others) < missing:
        return []
    idle = _idle(asker, others)
    giving = []
    for one in idle:
        if missing <= 0:
            break
        giving.append(one)
        missing -= one.cache.slots
    if missing > 0 and asker.holders:
        idle_numbers = {one.number for one in idle}
        holdings = _Holdings(one for one in others if one.holders and one.number not in idle_numbers)
        while missing > 0 and (next_one := holdings.take(asker.holder, slots, missing)) is not None:
            giving.append(next_one)
            missing -= next_one.cache.slots
    return [] if missing > 0 else giving


def _idle(asker: ServerSession, sessions: Iterable[ServerSession]) -> list[ServerSession]:
    """Those that have nothing to run: the asker's device's own first, then those that have waited longest."""
    now_s = time.monotonic()
    idle = (
        session
        for session in sessions
        if not session.verifier.ready
        and (session.verifier.finish is not None or now_s - session.state.concluded_s > IDLE_S)
    )
    return sorted(idle, key=lambda one: (one.holders.isdisjoint(asker.holders), one.state.concluded_s))


class _Holdings:
    """What each holder's sessions have. Those that wait stand apart from those that have something to run, each by
    size; of equal ones the one that began last is the largest."""

    def __init__(self, sessions: Iterable[ServerSession]) -> None:
        self._held = Counter[str]()
        self._of: defaultdict[str, tuple[list[ServerSession], list[ServerSession]]]
        self._of = defaultdict(lambda: ([], []))
        for one in sorted(sessions, key=lambda one: (one.cache.slots, one.statistics.opened_s)):
            self._held[one.holder] += one.cache.slots
            self._of[one.holder][one.verifier.ready].append(one)

    def take(self, asker: str, slots: int, missing: int) -> ServerSession | None:
        """The next one that gives way: of the holder of most, one that waits if there is one; the smallest that has all
        the missing slots, else the largest."""
        can_give = [holder for holder, (waiting, busy) in self._of.items() if len(waiting) + len(busy) > 1]
        holder = must_give(self._held, can_give, asker, slots)
        if holder is None:
            return None
        waiting, busy = self._of[holder]
        sessions = waiting or busy
        enough = bisect_left(sessions, missing, key=lambda one: one.cache.slots)
        while enough + 1 < len(sessions) and sessions[enough + 1].cache.slots == sessions[enough].cache.slots:
            enough += 1
        one = sessions.pop(min(enough, len(sessions) - 1))
        self._held[holder] -= one.cache.slots
        return one
