"""A model of admission, by hypothesis: whatever one identity opens, closes, keeps busy or leaves idle, another
one's session keeps its memory, and a newcomer is let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgespec.core.shares import holder_of
from edgespec.model.kv_pages import Pages
from edgespec.model.target_engine import KvFull
from edgespec.server.admission import Admission, Asker
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSettings

PAGES, SESSIONS = 40, 12


@dataclass
class FakeSession:
    """With memory in real pages."""

    number: int
    holders: frozenset[str]
    slots_needed: int
    pages: Pages
    ready: bool = True
    finish: str | None = None
    granted: bool = False
    held: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.verifier: Any = SimpleNamespace(ready=self.ready, finish=self.finish, remaining=100)
        self.state: Any = SimpleNamespace(latency_ms=None, concluded_s=0.0)
        self.statistics: Any = SimpleNamespace(opened_s=float(self.number))

    @property
    def holder(self) -> str:
        return holder_of(self.holders)

    @property
    def reserved(self) -> bool:
        return bool(self.held)

    @property
    def cache(self) -> Any:
        return SimpleNamespace(slots=len(self.held) * Pages.size)

    def reserve(self, slots: int | None) -> None:
        if not self.held:
            self.held = self.pages.take(-(-(slots or self.slots_needed) // Pages.size))

    def release(self) -> None:
        self.pages.drop(self.held)
        self.held = []


class AdmissionModel(RuleBasedStateMachine):
    """`greedy` does what it likes; `honest` has a session of four pages all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(PAGES)
        self.sessions: dict[int, Any] = {}
        self.admission = Admission(self.sessions, ServerSettings(max_sessions=SESSIONS), lambda rows: 1.0)
        self.numbers = 0
        self.honest = self.open("honest", 4)

    def open(self, who: str, pages: int, ready: bool = True) -> FakeSession:
        """Raises Refused."""
        asker = Asker(frozenset({who}))
        self.admission.check_share(asker)
        self.admission.admit(None, asker=asker)
        self.admission.check_room()
        self.numbers += 1
        session: Any = FakeSession(self.numbers, asker.holders, pages * Pages.size, self.pages, ready)
        self.admission.reserve_memory(session)
        self.sessions[session.number] = session
        return session  # type: ignore[no-any-return]

    @property
    def greedy(self) -> list[Any]:
        return [one for one in self.sessions.values() if one.holder == "greedy"]

    @rule(pages=st.integers(1, PAGES), ready=st.booleans())
    def opens(self, pages: int, ready: bool) -> None:
        try:
            self.open("greedy", pages, ready)
        except Refused:
            assert self.greedy or pages > PAGES - 4, "who has nothing is refused only what there is not"

    @rule(which=st.integers(0, 100), ready=st.booleans(), finished=st.booleans())
    def keeps_busy_or_idle(self, which: int, ready: bool, finished: bool) -> None:
        if self.greedy:
            one = self.greedy[which % len(self.greedy)]
            one.verifier.ready, one.verifier.finish = ready and not finished, "stop" if finished else None

    @rule(which=st.integers(0, 100))
    def takes_memory_again(self, which: int) -> None:
        """As a session does that was taken its memory, and has something to run."""
        if self.greedy:
            one = self.greedy[which % len(self.greedy)]
            try:
                self.admission.reserve_memory(one)
            except Refused:
                self.closes(which)

    @rule(which=st.integers(0, 100))
    def closes(self, which: int) -> None:
        if self.greedy:
            one = self.greedy[which % len(self.greedy)]
            one.release()
            del self.sessions[one.number]

    @invariant()
    def the_other_ones_session_has_its_memory(self) -> None:
        assert self.honest.reserved

    @invariant()
    def a_newcomer_is_let_in(self) -> None:
        asks = 2  # pages: less than anybody's equal share
        held = {number: list(one.held) for number, one in self.sessions.items()}
        readers = self.pages._holders.copy()
        try:
            self.open("newcomer", asks)
            del self.sessions[self.numbers]
        except Refused:
            assert self.may_be_had < asks
            assert all(one.held == held[number] for number, one in self.sessions.items()), "in vain"
        for number, pages in held.items():
            self.sessions[number].held = pages
        self.pages._holders[:] = readers

    @property
    def may_be_had(self) -> int:
        """Pages. A device's only session is left to it, however large it is."""
        idle = [len(one.held) for one in self.greedy if not one.verifier.ready]
        busy = [len(one.held) for one in self.greedy if one.verifier.ready and one.held]
        return self.pages.free + sum(idle) + sum(busy) - min(busy, default=0)


TestAdmission = AdmissionModel.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_memory_is_given_back_by_the_largest_holder_only_and_never_by_a_lone_session() -> None:
    model = AdmissionModel()
    for _ in range(8):
        model.open("greedy", 4)
    assert model.pages.free == 4
    newcomer = model.open("newcomer", 12)
    assert newcomer.reserved and model.honest.reserved
    assert sum(one.reserved for one in model.greedy) == 6
    with pytest.raises(Refused):
        model.open("greedy", 20)
    with pytest.raises(KvFull):
        model.pages.take(100)


def test_nobody_gives_way_to_a_session_that_finds_no_room_even_so() -> None:
    model = AdmissionModel()
    model.open("greedy", 1, ready=False)
    model.open("greedy", 35)
    with pytest.raises(Refused, match="lacks 128 slots"):
        model.open("newcomer", 2)
    assert [len(one.held) for one in model.greedy] == [1, 35]


def test_the_largest_holder_gives_the_smallest_session_that_is_enough() -> None:
    model = AdmissionModel()
    for pages in (20, 10, 5, 1):
        model.open("greedy", pages)
    assert model.open("newcomer", 4).reserved
    assert [len(one.held) for one in model.greedy] == [20, 10, 0, 1]
