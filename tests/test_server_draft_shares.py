"""Whose sessions the server drafts for before a forward."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.server.forwards import ForwardRunner
from edgespec.server.time_accounts import DraftTime
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits


class Session:
    """Has its draft once it was drafted for."""

    params = SamplingParams(temperature=0.0)

    def __init__(self, state: VerifyingSession, drafted_here: bool, account: DraftTime) -> None:
        self.drafter = object() if drafted_here else None
        self.draft_time = account
        self.drafts = 0
        self._state = state

    def draft_here(self) -> None:
        self.drafts += 1
        self._state.verifier.received.suggest([(7, 0.9)])


class Drafting:
    """A session for each letter, its device; capitals want the server's draft. Each has waited longer than the next."""

    def __init__(self, devices: str) -> None:
        self.accounts = {device: DraftTime() for device in devices.lower()}
        self.states = [
            VerifyingSession(
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
        ]
        self.sessions = [
            Session(state, device.isupper(), self.accounts[device.lower()])
            for state, device in zip(self.states, devices, strict=True)
        ]
        table: Any = SimpleNamespace(table=dict(enumerate(self.sessions)))
        nobody: Any = None
        self.runner = ForwardRunner(nobody, VerifyingLoop(), table, nobody, nobody, None, False)

    def owe(self, devices: str) -> None:
        for device in devices:
            self.accounts[device].spend(3600.0, time.monotonic())

    def without_debtors(self) -> list[int]:
        return [one.number for one in self.runner._without_debtors(self.states, time.monotonic())]

    def with_drafts(self) -> list[int]:
        return [one.number for one in self.runner._with_drafts(self.states)[0]]

    @property
    def drafts(self) -> list[int]:
        return [session.drafts for session in self.sessions]


@pytest.mark.parametrize(
    ("devices", "left"),
    [("AAAAb", [4]), ("aaaab", [0, 1, 2, 3, 4]), ("AAAA", [0, 1, 2, 3]), ("AB", [1])],
    ids=["beside another", "without drafts", "alone", "beside another that drafts"],
)
def test_a_device_whose_drafts_took_too_long_leaves_forwards_to_others(devices: str, left: list[int]) -> None:
    drafting = Drafting(devices)
    drafting.owe("a")
    assert drafting.without_debtors() == left


def test_while_others_wait_a_device_in_debt_has_one_session_drafted_for() -> None:
    drafting = Drafting("AAAb")
    drafting.owe("a")
    assert drafting.with_drafts() == [0, 3] and drafting.drafts == [1, 0, 0, 0]


def test_where_all_are_in_debt_all_run() -> None:
    drafting = Drafting("AB")
    drafting.owe("ab")
    assert drafting.without_debtors() == drafting.with_drafts() == [0, 1]


def test_drafts_for_the_only_device_are_free() -> None:
    drafting = Drafting("AAA")
    assert drafting.with_drafts() == [0, 1, 2] and drafting.drafts == [1, 1, 1]
    assert drafting.accounts["a"].full(time.monotonic())


def test_sessions_that_have_their_draft_wait_for_nothing() -> None:
    drafting = Drafting("Ab")
    drafting.with_drafts()
    drafting.owe("a")
    assert drafting.without_debtors() == [0, 1]
