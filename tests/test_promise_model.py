"""A model of latency promises, by hypothesis: whatever one identity opens, asks for and sends, another one's promise is
kept, a third one that was promised nothing does not starve, and a newcomer is promised the same."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgespec.server.admission import Admission, Asker
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSettings
from edgespec.verifying.offer import Offer
from edgespec.verifying.scheduler import Limits, Scheduler

PROMISED_MS = 60.0
STARVED_MS = 300.0


def forward_ms(rows: int) -> float:
    return 8.0 + 1.5 * rows


class PromiseModel(RuleBasedStateMachine):
    """Forwards run on a clock of their own. `greedy` always has something to run; `honest` and `patient` have one row
    of one session, and `patient` no target."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[int, Any] = {}
        self.admission = Admission(self.sessions, ServerSettings(max_sessions=64), forward_ms)
        self.scheduler = Scheduler(Limits(), lambda rows, attended: forward_ms(rows))
        self.numbers = 0
        self.now_s = 0.0
        self.honest = self.open("honest", PROMISED_MS)
        self.patient = self.open("patient", None)

    def open(self, who: str, latency_ms: float | None, rows: int = 1, nodes: int = 0) -> int:
        """Raises Refused."""
        asker = Asker(frozenset({who}))
        self.admission.check_share(asker)
        granted_ms = self.admission.admit(latency_ms, asker=asker)
        self.numbers += 1
        self.sessions[self.numbers] = SimpleNamespace(
            holders=asker.holders,
            granted=False,
            verifier=SimpleNamespace(finish=None, remaining=100),
            state=SimpleNamespace(latency_ms=granted_ms),
            rows=rows,
            nodes=nodes,
            since_s=self.now_s,
        )
        return self.numbers

    def run_forward(self) -> None:
        offers = [
            Offer(
                number,
                next(iter(one.holders)),
                one.rows,
                one.since_s,
                [0.99] * one.nodes,
                latency_ms=one.state.latency_ms,
            )
            for number, one in self.sessions.items()
        ]
        grants = self.scheduler.form(offers, self.now_s)
        self.now_s += forward_ms(sum(grant.rows + grant.nodes for grant in grants)) / 1e3
        for grant in grants:
            one = self.sessions[grant.session]
            one.rows = max(1, one.rows - grant.rows)
            one.since_s = self.now_s

    @rule(
        latency_ms=st.sampled_from([None, 20.0, 30.0, 30.0, 45.0, 60.0, 200.0, 1000.0]),
        rows=st.sampled_from([1, 1, 3, 100, 2000]),
        nodes=st.sampled_from([0, 4, 64]),
    )
    def opens(self, latency_ms: float | None, rows: int, nodes: int) -> None:
        with suppress(Refused):
            self.open("greedy", latency_ms, rows, nodes)

    @rule(which=st.integers(0, 100))
    def closes(self, which: int) -> None:
        greedy = self.greedy
        if greedy:
            del self.sessions[greedy[which % len(greedy)]]

    @rule(which=st.integers(0, 100), rows=st.integers(1, 500))
    def sends_another_turn(self, which: int, rows: int) -> None:
        greedy = self.greedy
        if greedy:
            self.sessions[greedy[which % len(greedy)]].rows = rows

    @property
    def greedy(self) -> list[int]:
        return [number for number in self.sessions if number not in (self.honest, self.patient)]

    @invariant()
    def the_other_ones_promise_is_kept(self) -> None:
        honest = self.sessions[self.honest]
        for _ in range(3):
            before_s = honest.since_s
            while honest.since_s == before_s:
                self.run_forward()
                assert self.now_s - before_s <= PROMISED_MS / 1e3

    @invariant()
    def who_was_promised_nothing_does_not_starve(self) -> None:
        assert self.now_s - self.sessions[self.patient].since_s <= STARVED_MS / 1e3

    @invariant()
    def a_newcomer_is_promised_the_same(self) -> None:
        newcomer = Asker(frozenset({"newcomer"}))
        assert self.admission.admit(PROMISED_MS, asker=newcomer) == PROMISED_MS


TestPromises = PromiseModel.TestCase
TestPromises.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
