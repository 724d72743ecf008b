"""Whose sessions the server drafts for before a forward."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.server.forwards import DRAFT_FREE_S, DRAFT_SHARE, ForwardRunner
from edgespec.server.rate import Rate
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits


def in_debt() -> Rate:
    account = Rate(DRAFT_SHARE, DRAFT_FREE_S)
    account.spend(3600.0, time.monotonic())
    return account


class Drafter:
    """Drafts once, as a server's drafter does between two verdicts."""

    def __init__(self) -> None:
        self.runs = 0

    def draft(self) -> list[tuple[int, float]]:
        self.runs += 1
        return [(7, 0.9)] if self.runs == 1 else []


def drafting(devices: str) -> tuple[Any, dict[int, VerifyingSession], dict[int, Drafter]]:
    """A session for each letter, its device; capitals want the server's draft. Each has waited longer than the next."""
    states = {
        number: VerifyingSession(
            number,
            device.lower(),
            Verifier(
                [1, 2, 3],
                100,
                ServerOptions(fill=True, server_draft="required" if device.isupper() else "off"),
                VerifierLimits(256),
            ),
            float(number),
        )
        for number, device in enumerate(devices)
    }
    drafters = {number: Drafter() for number, device in enumerate(devices) if device.isupper()}
    params = SamplingParams(temperature=0.0)
    table = {
        number: SimpleNamespace(drafter=drafters.get(number), params=params, guide_time=None)
        for number in states
    }
    runner: Any = ForwardRunner(
        None,  # type: ignore[arg-type]
        VerifyingLoop(),
        SimpleNamespace(table=table),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,
        False,
    )
    return runner, states, drafters


@pytest.mark.parametrize(
    ("devices", "left"),
    [("AAAAb", [4]), ("aaaab", [0, 1, 2, 3, 4]), ("AAAA", [0, 1, 2, 3]), ("AB", [1])],
    ids=["beside another", "without drafts", "alone", "beside another that drafts"],
)
def test_a_device_whose_drafts_took_too_long_leaves_forwards_to_others(devices: str, left: list[int]) -> None:
    runner, states, _ = drafting(devices)
    runner.draft_times["a"] = in_debt()
    ready = runner._without_debtors(list(states.values()), time.monotonic())
    assert [state.number for state in ready] == left


def test_while_others_wait_a_device_in_debt_has_one_session_drafted_for() -> None:
    runner, states, drafters = drafting("AAAb")
    runner.draft_times["a"] = in_debt()
    assert [state.number for state in runner._with_drafts(list(states.values()))] == [0, 3]
    assert [drafter.runs for drafter in drafters.values()] == [1, 0, 0]


def test_where_all_are_in_debt_all_run() -> None:
    runner, states, _ = drafting("AB")
    runner.draft_times.update(a=in_debt(), b=in_debt())
    ready = runner._without_debtors(list(states.values()), time.monotonic())
    assert [state.number for state in ready] == [0, 1]
    assert [state.number for state in runner._with_drafts(ready)] == [0, 1]


def test_drafts_for_the_only_device_are_free() -> None:
    runner, states, drafters = drafting("AAA")
    assert len(runner._with_drafts(list(states.values()))) == 3 and not runner.draft_times
    assert [drafter.runs for drafter in drafters.values()] == [1, 1, 1]


def test_sessions_that_have_their_draft_wait_for_nothing() -> None:
    runner, states, _ = drafting("Ab")
    runner._with_drafts(list(states.values()))
    runner.draft_times["a"] = in_debt()
    assert len(runner._without_debtors(list(states.values()), time.monotonic())) == 2
