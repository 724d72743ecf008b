"""Whose sessions the server drafts for before a forward, beside others that wait for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.core.server_options import ServerOptions
from edgespec.server import hosted_drafts
from edgespec.server.hosted_drafts import HostedDrafts
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

FORWARD_MS, DRAFT_S = 40.0, 0.002
"""ROOM of such a forward has time for two such drafts."""


class Session:
    """A session whose draft takes DRAFT_S, of a clock that only drafts move."""

    clock_s = 0.0

    def __init__(self, drafted_here: bool) -> None:
        self.drafter = object() if drafted_here else None
        self.has_draft = False
        self.drafts = 0

    def draft_here(self) -> bool:
        if self.has_draft:
            return False
        self.drafts += 1
        Session.clock_s += DRAFT_S
        return True


class Drafting:
    """A session for each letter, its device; capitals want the server's draft. Each has waited longer than the next."""

    def __init__(self, devices: str, monkeypatch: pytest.MonkeyPatch, wanted: str = "required") -> None:
        monkeypatch.setattr(hosted_drafts, "time", SimpleNamespace(monotonic=lambda: Session.clock_s))
        self.loop = VerifyingLoop(cost=lambda rows: FORWARD_MS)
        for number, device in enumerate(devices):
            options: Any = {"server_draft": wanted if device.isupper() else "off"}
            verifier = Verifier([1, 2, 3], 100, ServerOptions(fill=True, **options), VerifierLimits(256))
            self.loop.sessions[number] = VerifyingSession(number, device.lower(), verifier, float(number))
        self.table = {number: Session(device.isupper()) for number, device in enumerate(devices)}
        self.failed: list[int] = []
        sessions: Any = SimpleNamespace(table=self.table, fail=lambda number, *_: self.failed.append(number))
        self.hosted = HostedDrafts(sessions, self.loop, None, usual_s=DRAFT_S)

    def run(self, *numbers: int) -> tuple[list[int], float]:
        """Drafts for these sessions, which are ready; of none named, for all."""
        ready = [self.loop.sessions[number] for number in numbers or self.loop.sessions]
        left, spent_s = self.hosted.run(ready)
        return [state.number for state in left], spent_s

    @property
    def drafts(self) -> list[int]:
        return [session.drafts for session in self.table.values()]


@pytest.mark.parametrize(
    ("devices", "drafts"),
    [
        ("AAA", [1, 1, 1]),
        ("AB", [1, 1]),
        ("AAAAABBBBB", [1] * 10),
        ("AAAAAb", [1, 1, 0, 0, 0, 0]),
        ("AAAAAB", [1, 1, 0, 0, 0, 1]),
        ("ab", [0, 0]),
    ],
    ids=["alone", "equal", "equal, many", "beside one without", "beside one with fewer", "none"],
)
def test_a_device_has_as_many_drafts_as_others_and_beyond_these_what_fits(
    devices: str, drafts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drafting = Drafting(devices, monkeypatch)
    left, spent_s = drafting.run()
    assert drafting.drafts == drafts
    assert left == list(range(len(devices))), "who is left out runs without a draft"
    assert spent_s == pytest.approx(DRAFT_S * sum(drafts))


def test_a_device_whose_neighbours_are_not_ready_yet_keeps_them_waiting_for_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drafting = Drafting("AAAAAb", monkeypatch)
    drafting.run(0, 1, 2, 3, 4)
    assert drafting.drafts == [1, 1, 0, 0, 0, 0]


def test_a_draft_that_took_long_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drafting = Drafting("Ab", monkeypatch)
    drafting.hosted.usual_s = 10 * DRAFT_S
    forwards = next(number for number in range(1000) if drafting.run()[1])
    assert forwards > 100


def test_sessions_that_have_their_draft_take_nobodys_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drafting = Drafting("AAAb", monkeypatch)
    drafting.table[0].has_draft = drafting.table[1].has_draft = True
    assert drafting.run()[1] == pytest.approx(DRAFT_S) and drafting.drafts == [0, 0, 1, 0]


def test_a_draft_that_is_lent_works_for_a_session_that_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drafting = Drafting("Ab", monkeypatch, "lent")
    drafting.run()
    assert drafting.drafts == [0, 0]
    drafting.run(0)
    assert drafting.drafts == [1, 0]


def test_a_draft_that_fails_ends_its_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drafting = Drafting("AAA", monkeypatch)
    monkeypatch.setattr(drafting.table[1], "draft_here", lambda: 1 / 0)
    assert drafting.run()[0] == [0, 2] and drafting.failed == [1]
