"""Forwards on the target: what the verifying loop plans is run, hints and verdicts leave for each session by itself.

A joint forward that fails is run again by halves, and these again: only sessions that fail alone end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgespec import _native
from edgespec.core.guide_limits import GuideFailed
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.target_engine import Decisions, ExitRows, ForwardRequest, HintAddress, TargetEngine
from edgespec.server.admission import Admission
from edgespec.server.frames import hint_frame, verdict_frame
from edgespec.server.hosted_drafts import HostedDrafts
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.verifying.loop import Forward, Share, VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import PlannedRows

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics


def learn_cost(target: TargetEngine, loop: VerifyingLoop) -> None:
    """Time some forwards that no session needs, so that latency targets can be promised from the first session on;
    nothing, where the cost is known."""
    if target.forward_cost is not None or loop.measured.seen:
        return
    most = min(loop.limits.rows, target.context_length - 1)
    for number, rows in enumerate((1, most, 1, most // 2 + 1, most)):
        piece = SlotMap(most).plan([0] * most, rows, DraftTree(rows), [])
        start_s = time.monotonic()
        sampling = SamplingParams(temperature=0.0)
        cache = target.open_cache(most)
        target.forward_batch([ForwardRequest(cache, piece, np.arange(rows), sampling, 0, text=[0])])
        if number:  # the first one warms up
            loop.measured.observe(rows, 0, (time.monotonic() - start_s) * 1e3)


@dataclass(frozen=True)
class ForwardRunner:
    """mailbox: the target's exits have one, through which hints leave without this loop where they can."""

    target: TargetEngine
    loop: VerifyingLoop
    sessions: OpenSessions
    admission: Admission
    listener: _native.Listener
    metrics: Metrics | None
    hosted_drafts: HostedDrafts
    mailbox: bool

    def run_next(self) -> bool:
        """One forward of the sessions that are ready. False: none is, or it waits for others."""
        now_s = time.monotonic()
        if self.loop.wait_s(now_s) != 0.0:
            return False
        ready = self._without_debtors(self.loop.ready(now_s), now_s)
        ready = [state for state in ready if self._has_memory(state.number)]
        ready, drafting_s = self.hosted_drafts.run(ready)
        forward = self.loop.next_forward(ready, time.monotonic(), drafting_s * 1e3)
        for number, error in forward.failed:
            self.sessions.fail(number, "server", error)
        if forward.shares:
            self._run(forward)
        return bool(forward.shares)

    def _without_debtors(self, ready: list[VerifyingSession], now_s: float) -> list[VerifyingSession]:
        """Without those whose device's guides have taken more than their share, where that leaves anybody."""

        def owes(state: VerifyingSession) -> bool:
            session = self.sessions.table[state.number]
            return session.params.guide is not None and session.guide_time.owed_s(now_s) > 0

        return [state for state in ready if not owes(state)] or ready

    def _has_memory(self, number: int) -> bool:
        """The session has its memory, or takes it again, or ends for want of it."""
        session = self.sessions.table[number]
        try:
            if not session.reserved:
                self.admission.reserve_memory(session)
        except Refused as refused:
            self.sessions.refuse(number, refused)
        return session.reserved

    def _run(self, forward: Forward) -> None:
        forward, requests = self._requests(forward)
        if not requests:
            return
        try:
            start_s = time.monotonic()
            decisions = self.target.forward_batch(requests)
        except Exception as error:
            if len(forward.shares) == 1:
                self.sessions.fail(forward.shares[0].session.number, "target", error)
                return
            for half in self.loop.halves(forward):
                self._run(half)
            return
        now_s = time.monotonic()
        forward_ms = (now_s - start_s) * 1e3
        self.loop.observe(forward, forward_ms, now_s)
        if self.metrics is not None:
            self.metrics.record_forward(len(forward.shares), forward.rows, forward_ms / 1e3)
        for share, decided in zip(forward.shares, decisions, strict=True):
            try:
                self._conclude(share, decided, now_s, forward_ms)
            except Exception as error:
                self.sessions.fail(share.session.number, "server", error)

    def _requests(self, forward: Forward) -> tuple[Forward, list[ForwardRequest]]:
        """Of the sessions whose request can be made, and the forward without the others, which end."""
        shares, requests = [], []
        for share in forward.shares:
            try:
                requests.append(self._request(share, forward.exits))
                shares.append(share)
            except GuideFailed as failed:
                refused = Refused(_native.ErrorCode.PARAMETER, str(failed))
                self.sessions.refuse(share.session.number, refused)
            except Exception as error:
                self.sessions.fail(share.session.number, "target", error)
        return replace(forward, shares=shares), requests

    # Hints

    def _request(self, share: Share, exits: bool) -> ForwardRequest:
        session, rows = self.sessions.table[share.session.number], share.rows
        hints = exits and share.hints.wanted
        return ForwardRequest(
            session.cache,
            rows.piece,
            rows.decide,
            session.params,
            session.seed,
            partial(self._send_hint, session, share) if hints else None,
            self._constraints(session, rows),
            self._hint_address(session, share) if hints and self.mailbox else None,
            text=session.verifier.text,
            pictures=session.pictures,
            planned=rows.tree,
        )

    @staticmethod
    def _constraints(session: ServerSession, rows: PlannedRows) -> RowConstraints | None:
        if not session.constraints.depend_on_text:
            return None
        verifier = session.verifier
        paths = [verifier.tree.path_tokens(end) for end in rows.nodes]
        return session.constraints.of_rows(verifier.text, verifier.turn_start, paths)

    def _send_hint(self, session: ServerSession, share: Share, exit_rows: ExitRows) -> None:
        guess = exit_rows.guess
        hint = share.hints(guess.path, guess.token, guess.confidence, exit_rows.layer)
        if hint is not None:
            self.listener.send(session.number, hint_frame(hint, session.turn))
            self._record_hints(session, 1)

    def _hint_address(self, session: ServerSession, share: Share) -> HintAddress:
        verifier = session.verifier
        threshold = verifier.options.hint_threshold
        assert threshold is not None
        references = np.array(share.hints.references(), dtype=np.uint32)
        sent = partial(self._record_hints, session)
        return HintAddress(session.number, len(verifier.text), session.turn, threshold, references, sent)

    def _record_hints(self, session: ServerSession, count: int) -> None:
        session.statistics.hints += count
        if self.metrics is not None:
            self.metrics.hints.inc(count)

    # Verdicts

    def _conclude(self, share: Share, decisions: Decisions, now_s: float, forward_ms: float) -> None:
        session, before_s = self.sessions.table[share.session.number], share.session.concluded_s
        tokens, walk = decisions.tokens.tolist(), decisions.path.tolist()
        conclusion = share.session.conclude(share.rows, tokens, walk, forward_ms, now_s)
        if conclusion is None:
            return
        verdict, statistics = conclusion.verdict, session.statistics
        logprobs = decisions.logprobs[conclusion.picks] if session.params.logprobs else None
        top = None if decisions.top is None else decisions.top.rows(conclusion.picks)
        self.listener.send(session.number, verdict_frame(verdict, session.turn, logprobs, top))
        if session.drafter is not None:
            session.drafter.verdict(verdict.base_length, verdict.tokens, verdict.rows)
        session.publish()
        statistics.rtt_ms = self.listener.rtt_ms(session.number)
        if self.metrics is not None:
            self.metrics.record_verdict(conclusion, share.rows.drafted, statistics, before_s, now_s)
        statistics.record(conclusion, share.rows.drafted, now_s)
