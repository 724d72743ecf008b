"""Forwards of many sessions: what the scheduler grants runs on the target at once, hints and verdicts leave
for each session by itself.

A forward that fails is run again for each of its sessions alone: only those that fail by themselves end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgespec import _native
from edgespec.core.measurements import LinearCost
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.target_engine import (
    Decisions,
    ExitRows,
    ForwardRequest,
    HintAddress,
    TargetEngine,
)
from edgespec.server.server_session import ServerSession
from edgespec.verifying.batching_delay import BatchingDelay
from edgespec.verifying.exit_worth import ExitWorth
from edgespec.verifying.scheduler import Grant, Limits, Scheduler
from edgespec.verifying.verifier import Forward, Verdict

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

log = logging.getLogger("edgespec.forwards")

EXIT_ROWS = 96
"""Decided rows beyond which exits are left out: the LM head's time at each exit then delays all verdicts by
more than hints can gain."""

CHANNEL = 1
"""Any: the listener fills in the channel that a session has on its connection."""

Result = TypeVar("Result")

FINISH = {
    None: _native.FinishReason.NONE,
    "stop": _native.FinishReason.STOP,
    "length": _native.FinishReason.LENGTH,
}


class Forwards:
    """Runs the sessions' forwards. send: a frame to a session, by its number; fail: ends a session whose
    forward failed."""

    def __init__(
        self,
        target: TargetEngine,
        send: Callable[[int, bytes], Any],
        fail: Callable[[ServerSession, Exception], None],
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        watched: bool = False,
        rtt_ms: Callable[[int], float | None] = lambda number: None,
    ) -> None:
        """watched: the target has a watcher, which sends hints where it can; rtt_ms: of a session, by its number,
        where it is known."""
        self._target = target
        self._watched = watched
        self._send = send
        self._fail = fail
        self._metrics = metrics
        self._rtt_ms = rtt_ms
        self._measured = LinearCost()
        self._exits_pay = ExitWorth()
        self.cost: Callable[[int], float] = target.forward_cost or self._measured
        self.limits = limits or Limits()
        self._scheduler: Scheduler[ServerSession] = Scheduler(self.limits, self.cost)
        self.batching_delay = BatchingDelay(self.cost)
        self.last_ms = 0.0

    def learn_cost(self) -> None:
        """Time some forwards that nobody asked for, so that promises can be kept from the first session on; nothing,
        once any were timed."""
        if self._target.forward_cost is not None or self._measured.seen:
            return
        most = min(self.limits.rows, self._target.context_length - 1)
        for rows in (1, most, 1, most // 2 + 1, most):
            piece = SlotMap(most).plan([0] * most, rows, DraftTree(rows), [])
            start_s = time.monotonic()
            cache = self._target.open_cache(most)
            sampling = SamplingParams(temperature=0.0)
            self._target.forward_batch([ForwardRequest(cache, piece, np.arange(rows), sampling, 0)])
            if (rows, self._measured.seen) != (1, 0):  # the first of all warms up
                self._measured.observe(rows, (time.monotonic() - start_s) * 1e3)

    def run(self, ready: Sequence[ServerSession]) -> None:
        """One forward of the sessions that the scheduler chooses among those ready."""
        ready = self._drafted_for(ready)
        offers = [offer for session in ready if (offer := self._guarded(session, session.offer))]
        granted = self._scheduler.form(offers, time.monotonic())
        planned = [
            (grant.session, forward)
            for grant in granted
            if (forward := self._guarded(grant.session, partial(self._plan, grant)))
        ]
        if planned:
            self._run(planned)

    def _guarded(self, session: ServerSession, work: Callable[[], Result]) -> Result | None:
        """What `work` on a session returns; where it fails, that session ends, and no other with it."""
        try:
            return work()
        except Exception as error:
            log.exception("work on a session failed; it ends")
            self._fail(session, error)
            return None

    def _drafted_for(self, ready: Sequence[ServerSession]) -> list[ServerSession]:
        """Draft here for sessions whose devices cannot, and for others while they are alone; those ready still."""
        start_s = time.monotonic()
        alone = len(ready) == 1
        left = [
            session
            for session in ready
            if session.server_drafter is None
            or (session.verifier.options.server_draft == "lent" and not alone)
            or self._guarded(session, partial(self._draft, session))
        ]
        if self._metrics is not None and any(session.server_drafter is not None for session in left):
            self._metrics.saw_drafting(time.monotonic() - start_s)
        return left

    def _draft(self, session: ServerSession) -> bool:
        assert session.server_drafter is not None
        session.server_drafter.draft(session.verifier)
        return True

    def _plan(self, grant: Grant[ServerSession]) -> Forward:
        return grant.session.verifier.plan(grant.rows, grant.nodes)

    def _run(self, planned: Sequence[tuple[ServerSession, Forward]]) -> None:
        start_s = time.monotonic()
        decided = sum(len(forward.decide) for _, forward in planned)
        rows = sum(len(forward.piece) for _, forward in planned)
        exits = decided <= EXIT_ROWS and (self._scheduler.roomy or len(planned) == 1)
        hinted = exits and any(self._hints(one) for one in planned) and self._exits_pay(len(planned), rows)
        requests = [self._request(session, forward, hinted) for session, forward in planned]
        try:
            decisions = self._target.forward_batch(requests)
        except Exception as error:  # a failing session never takes another with it
            if len(planned) > 1:
                for one in planned:
                    self._run([one])
                return
            log.exception("a forward failed; its session ends")
            self._fail(planned[0][0], error)
            return
        now_s = time.monotonic()
        self.last_ms = (now_s - start_s) * 1e3
        self.batching_delay.saw_forward(len(planned), rows, now_s)
        if decided:
            self._measured.observe(rows, self.last_ms)
            self._exits_pay.saw_forward(hinted, rows, self.last_ms)
        if self._metrics is not None:
            self._metrics.saw_forward(len(planned), rows, self.last_ms / 1e3)
        for (session, forward), decision in zip(planned, decisions, strict=True):
            self._guarded(session, partial(self._conclude, session, forward, decision, now_s))

    def _hints(self, planned: tuple[ServerSession, Forward]) -> bool:
        session, forward = planned
        return session.verifier.options.hint_threshold is not None and bool(forward.nodes)

    def _request(self, session: ServerSession, forward: Forward, exits: bool) -> ForwardRequest:
        verifier = session.verifier

        def send_hint(rows: ExitRows) -> None:
            hint = rows.hint
            guess = verifier.hint(forward, hint.path, hint.token, hint.confidence)
            if guess is not None:
                frame = _native.encode_hint(
                    CHANNEL,
                    base_length=guess.base_length,
                    node=guess.reference,
                    token=guess.token,
                    confidence=guess.confidence,
                    layer=rows.layer,
                    clock_us=clock_us(),
                    turn=session.turn,
                )
                self._send(session.number, frame)
                self._saw_hints(session, 1)

        hints = exits and self._hints((session, forward))
        return ForwardRequest(
            session.cache,
            forward.piece,
            forward.decide,
            session.params,
            session.seed,
            send_hint if hints else None,
            verifier.seen(forward) if session.params.repetition_penalty != 1 else None,
            self._watch(session, forward) if hints and self._watched else None,
        )

    def _watch(self, session: ServerSession, forward: Forward) -> HintAddress:
        """What a watcher must know to send this session's hints by itself."""
        threshold = session.verifier.options.hint_threshold
        assert threshold is not None
        references = np.array(session.verifier.references(forward), dtype=np.uint32)
        length, turn = len(session.verifier.text), session.turn
        return HintAddress(
            session.number, length, turn, threshold, references, partial(self._saw_hints, session)
        )

    def _saw_hints(self, session: ServerSession, count: int) -> None:
        session.tally.hints += count
        if self._metrics is not None:
            for _ in range(count):
                self._metrics.saw_hint()

    def _conclude(self, session: ServerSession, forward: Forward, decisions: Decisions, now_s: float) -> None:
        before_s, session.concluded_s = session.concluded_s, now_s
        verdict = session.verifier.conclude(forward, decisions.tokens.tolist())
        if verdict is None:
            return
        self._send_verdict(session, forward, verdict, decisions)
        if session.server_drafter is not None:
            session.server_drafter.verdict(verdict, len(forward.nodes) - 1)
        session.publish()
        tally = session.tally
        drafted, committed = len(forward.nodes) - 1 - forward.looked_up, len(verdict.tokens)
        accepted = verdict.accepted
        first = tally.first_ms is None
        tally.saw_verdict(drafted, accepted, committed, now_s - session.opened_s)
        session.rtt_ms = self._rtt_ms(session.number)
        if self._metrics is not None:
            seconds = now_s - (session.opened_s if first else before_s)
            self._metrics.saw_verdict(drafted, accepted, committed, seconds, first)
            if session.rtt_ms is not None:
                self._metrics.saw_rtt(session.rtt_ms / 1e3)
            if verdict.finish is not None:
                self._metrics.saw_finish(verdict.finish)

    def _send_verdict(
        self, session: ServerSession, forward: Forward, verdict: Verdict, decisions: Decisions
    ) -> None:
        frame = _native.encode_verdict(
            CHANNEL,
            base_length=verdict.base_length,
            tokens=np.array(verdict.tokens, dtype=np.int32),
            logprobs=decisions.logprobs[verdict.picks] if session.params.logprobs else None,
            finish=FINISH[verdict.finish],
            forwards=session.verifier.forwards,
            rows=len(forward.nodes) - 1,
            forward_us=round(self.last_ms * 1e3),
            clock_us=clock_us(),
            turn=session.turn,
        )
        self._send(session.number, frame)


def clock_us() -> int:
    return time.monotonic_ns() // 1000 % 2**32
