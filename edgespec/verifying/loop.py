"""The verifying loop: the server's half of all sessions. Pure: no I/O, no clock, no model; time is passed in.

Messages of the edges go to its `sessions`. `wait_s` says when the next forward may start, `next_forward` what it runs.
While it runs, each share's `hints` turn what exits decided into hints; when it has ended, each session's `conclude`
turns what the last layer decided into a verdict. The server turns this loop with sockets and a target, the simulator
with a simulated clock.

    while running:
        wait for messages, at most loop.wait_s(now_s), and hand them to loop.sessions[number]
        forward = loop.next_forward(loop.ready(now_s), now_s)
        run forward.shares on the target, sending share.hints(...) on the way
        loop.observe(forward, milliseconds, now_s)
        send session.conclude(rows, tokens, walk, milliseconds, now_s).verdict for the session and rows of each share
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain

from edgespec.core.forward_cost import ForwardCost
from edgespec.verifying.batching_delay import BatchingDelay
from edgespec.verifying.exit_worth import ExitWorth
from edgespec.verifying.forward_hints import ForwardHints
from edgespec.verifying.offer import Grant
from edgespec.verifying.scheduler import Limits, Scheduler
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import PlannedRows

EXIT_ROWS = 96
"""Decided rows beyond which exits are left out: the LM head's time at each exit then delays all verdicts by more than
hints can gain."""


@dataclass(frozen=True)
class Share:
    """One session's share of a forward."""

    session: VerifyingSession
    rows: PlannedRows
    hints: ForwardHints


@dataclass(frozen=True)
class Forward:
    """A forward to run. exits: whether exit layers report to the shares that want hints. failed: sessions that could
    not be planned, and why; they must be closed."""

    shares: Sequence[Share]
    exits: bool
    failed: Sequence[tuple[int, Exception]] = ()

    @property
    def rows(self) -> int:
        return sum(len(share.rows.piece) for share in self.shares)

    @property
    def attended(self) -> int:
        """Tokens of the texts in front of the rows, summed over the rows."""
        return sum(len(share.rows.piece) * int(share.rows.piece.positions[0]) for share in self.shares)

    @property
    def decided(self) -> int:
        return sum(len(share.rows.decide) for share in self.shares)


class VerifyingLoop:
    """sessions: the open ones, by number. cost: milliseconds of a forward by its rows; None: it is measured."""

    def __init__(self, cost: Callable[[int], float] | None = None, limits: Limits | None = None) -> None:
        self.sessions: dict[int, VerifyingSession] = {}
        self.limits = limits or Limits()
        self.measured = ForwardCost()
        self.cost: Callable[[int], float] = cost or self.measured
        self._scheduler = Scheduler(
            self.limits, self.measured if cost is None else lambda rows, attended: cost(rows)
        )
        self._batching_delay = BatchingDelay(self.cost)
        self._exit_worth = ExitWorth()

    # The next forward

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until the next forward may start; None: no session has anything to run."""
        ready, others, shortest_s = [], [], math.inf
        for session in self._unfinished:
            wait_s = session.wait_s(now_s)
            if wait_s == 0.0:
                ready.append(session)
                if len(ready) == self.limits.rows:
                    return 0.0
            else:
                others.append(session)
                shortest_s = min(shortest_s, math.inf if wait_s is None else wait_s)
        if not ready:
            return None if shortest_s == math.inf else shortest_s
        if not others:
            return 0.0
        expected_s = (session.expected_s(now_s) for session in others)
        return self._batching_delay.wait_s(
            len(ready),
            (wait_s for wait_s in expected_s if wait_s is not None),
            now_s,
            low_priority=all(session.low_priority for session in ready),
        )

    def ready(self, now_s: float) -> list[VerifyingSession]:
        """The sessions that the next forward may run; of each device no more than may have a row of it."""
        of_device: dict[Hashable, list[VerifyingSession]] = {}
        for session in self._unfinished:
            if session.wait_s(now_s) == 0.0:
                of_device.setdefault(session.device, []).append(session)
        wanted = (sum(session.verifier.pending for session in ready) for ready in of_device.values())
        most = self._scheduler.most_of_a_device(len(of_device), min(wanted, default=0))
        few = (
            nsmallest(most, ready, key=_turn) if len(ready) > most else ready for ready in of_device.values()
        )
        return list(chain.from_iterable(few))

    @property
    def devices(self) -> set[Hashable]:
        """Those with a text that is being written."""
        return {session.device for session in self._unfinished}

    @property
    def _unfinished(self) -> Iterator[VerifyingSession]:
        """Many sessions are open, and few of them write: only those are looked at."""
        return (session for session in self.sessions.values() if session.verifier.finish is None)

    def next_forward(
        self, ready: Iterable[VerifyingSession], now_s: float, drafting_ms: float = 0.0
    ) -> Forward:
        """What the next forward runs, of these sessions; a session that fails takes no other with it. drafting_ms: what
        their hosted drafts took just now."""
        offers, shares, failed = [], [], []
        for session in ready:
            try:
                offers.append(session.offer())
            except Exception as error:
                failed.append((session.number, error))
        for grant in self._scheduler.form(offers, now_s, drafting_ms):
            try:
                shares.append(self._share(grant))
            except Exception as error:
                failed.append((grant.session, error))
        return self._forward(shares, failed)

    def halves(self, forward: Forward) -> list[Forward]:
        """The same rows in two forwards, where the joint forward failed: whose fault it is shows in a few of them."""
        middle = len(forward.shares) // 2
        return [self._forward(forward.shares[:middle]), self._forward(forward.shares[middle:])]

    def _share(self, grant: Grant) -> Share:
        session = self.sessions[grant.session]
        rows = session.verifier.plan(grant.rows, grant.nodes, grant.price, grant.slowed)
        return Share(session, rows, ForwardHints(session.verifier, rows))

    def _forward(self, shares: Sequence[Share], failed: Sequence[tuple[int, Exception]] = ()) -> Forward:
        """With exits, where they are wanted and worth their time."""
        forward = Forward(shares, True, failed)
        exits = (
            any(share.hints.wanted for share in shares)
            and forward.decided <= EXIT_ROWS
            and (len(shares) == 1 or self._scheduler.roomy)
            and self._exit_worth(len(shares), forward.rows)
        )
        return forward if exits else Forward(shares, False, failed)

    # What the forward brought

    def observe(self, forward: Forward, milliseconds: float, now_s: float) -> None:
        """A forward has ended, after this long."""
        self._batching_delay.observe(len(forward.shares), forward.rows, now_s)
        if forward.decided:
            self.measured.observe(forward.rows, forward.attended, milliseconds)
            self._exit_worth.observe(forward.exits, forward.rows, milliseconds)


def _turn(session: VerifyingSession) -> tuple[bool, bool, bool, float]:
    """Which sessions of one device come first."""
    away, no_target = session.away_since_s is not None, session.latency_ms is None
    return away, session.low_priority, no_target, session.concluded_s
