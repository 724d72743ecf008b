"""Drafts that the server makes before a forward: for devices that cannot draft, and for others while it is idle.

Everybody waits for them. So, while there are other devices, every device has as many of its sessions drafted for as the
one with the fewest, and more only while all drafts together take a small part of a forward's time. A session that is
left out runs without a draft.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgespec.server.open_sessions import OpenSessions
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

ROOM = 0.125
"""Of a forward's time, for all drafts where some are beyond the equal shares: half of what rows beyond them may take,
so that there is time left to verify what was drafted."""

KEPT, KEPT_UNSEEN = 0.7, 0.99
"""Of the usual time of a draft, when another one was timed; and when one was left out, so that it is tried again."""


@dataclass
class HostedDrafts:
    """usual_s: that a session's draft takes, lately."""

    sessions: OpenSessions
    loop: VerifyingLoop
    metrics: Metrics | None
    usual_s: float = 0.0

    def run(self, ready: Sequence[VerifyingSession]) -> tuple[list[VerifyingSession], float]:
        """Draft for those of these sessions that want it. Returns the sessions that are ready still, and the seconds
        that it took."""
        wanting = [state for state in ready if self._wants(state, alone=len(ready) == 1)]
        if not wanting:
            return list(ready), 0.0
        equal, room_s = self._equal(ready, wanting), self._room_s(ready)
        drafted: Counter[Hashable] = Counter()
        failed, left_out, spent_s = set(), False, 0.0
        for state in sorted(wanting, key=lambda state: state.concluded_s):
            if drafted[state.device] >= equal and spent_s + self.usual_s > room_s:
                left_out = True
                continue
            drafted[state.device] += 1
            try:
                spent_s += self._draft(state.number)
            except Exception as error:
                self.sessions.fail(state.number, "server's draft", error)
                failed.add(state.number)
        self.usual_s *= KEPT_UNSEEN if left_out else 1.0
        if self.metrics is not None:
            self.metrics.drafting.inc(spent_s)
        return [state for state in ready if state.number not in failed], spent_s

    def _wants(self, state: VerifyingSession, alone: bool) -> bool:
        return self.sessions.table[state.number].drafter is not None and state.wants_draft(alone)

    @staticmethod
    def _equal(ready: Sequence[VerifyingSession], wanting: Sequence[VerifyingSession]) -> int:
        """How many sessions every ready device has drafted for."""
        wanted = Counter(state.device for state in wanting)
        devices = {state.device for state in ready}
        return min(wanted[device] for device in devices) if len(devices) > 1 else 1

    def _room_s(self, ready: Sequence[VerifyingSession]) -> float:
        if len(self.loop.devices) < 2:
            return math.inf
        return ROOM * self.loop.cost(len({state.device for state in ready})) / 1e3

    def _draft(self, number: int) -> float:
        """Seconds that it took; 0.0: it had its draft already."""
        start_s = time.monotonic()
        if not self.sessions.table[number].draft_here():
            return 0.0
        took_s = time.monotonic() - start_s
        self.usual_s = KEPT * self.usual_s + (1 - KEPT) * took_s if self.usual_s else took_s
        return took_s
