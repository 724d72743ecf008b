"""Guides compiled off the server's loop: who waits, who pays, who is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from links import MAX_WAIT_S

from edgespec._native import ErrorCode
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.server.guide_compiler import GuideCompiler
from edgespec.server.guide_time import FREE_S, GuideTime

GUIDE = Guide.regex("a+")


class SlowGuides:
    """Compiles when it may, and takes `seconds` for each, as it says."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.may = threading.Event()
        self.threads: list[str] = []

    def matcher(self, guide: Guide, spend: Callable[[float], None]) -> str:
        assert self.may.wait(MAX_WAIT_S)
        self.threads.append(threading.current_thread().name)
        spend(self.seconds)
        if self.error is not None:
            raise self.error
        return f"of {guide.text}"


class Loop:
    """The server's: runs what it is called with. refused: sessions, and the codes."""

    def __init__(self, guides: SlowGuides) -> None:
        self.table: dict[int, Any] = {}
        self.refused: list[tuple[int, ErrorCode]] = []
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.compiler = GuideCompiler(guides, self, self._calls.put)  # type: ignore[arg-type]

    def refuse(self, number: int, refused: Any) -> None:
        self.refused.append((number, refused.code))
        del self.table[number]

    def open(self, number: int, account: GuideTime) -> Any:
        session = self.table[number] = SimpleNamespace(
            number=number,
            holder="device",
            guide_time=account,
            state=SimpleNamespace(waiting_for=0),
            constraints=SimpleNamespace(matcher=None),
        )
        self.compiler.compile(session, GUIDE)
        return session

    def turn(self) -> None:
        self._calls.get(timeout=MAX_WAIT_S)()


def test_a_session_waits_for_its_guide_and_the_loop_does_not() -> None:
    guides = SlowGuides(seconds=FREE_S + 1.0)
    loop, account = Loop(guides), GuideTime()
    session = loop.open(1, account)
    assert session.state.waiting_for == 1 and session.constraints.matcher is None
    guides.may.set()
    loop.turn()
    assert session.state.waiting_for == 0 and session.constraints.matcher == "of a+"
    assert guides.threads != [threading.current_thread().name]
    assert account.owed_s(0.0) > 0, "its device pays"


def test_a_device_that_comes_into_debt_by_one_guide_has_no_other_compiled() -> None:
    guides = SlowGuides(seconds=3600.0)
    loop, account = Loop(guides), GuideTime()
    for number in range(3):
        loop.open(number, account)
    guides.may.set()
    loop.turn()
    assert loop.refused == [(1, ErrorCode.LIMIT), (2, ErrorCode.LIMIT)]
    assert len(guides.threads) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(EdgespecError("no such guide."), ErrorCode.PARAMETER), (MemoryError(), ErrorCode.INTERNAL)],
)
def test_a_guide_that_cannot_be_used_ends_its_session_and_is_paid_for(
    error: Exception, code: ErrorCode
) -> None:
    guides = SlowGuides(seconds=FREE_S + 1.0, error=error)
    loop, account = Loop(guides), GuideTime()
    loop.open(1, account)
    guides.may.set()
    loop.turn()
    assert loop.refused == [(1, code)] and account.owed_s(0.0) > 0


def test_a_guide_of_a_session_that_has_ended_harms_nobody() -> None:
    guides = SlowGuides()
    loop, account = Loop(guides), GuideTime()
    loop.open(1, account)
    loop.open(2, account)
    loop.table.clear()
    guides.may.set()
    loop.turn()
    assert loop.refused == [] and len(guides.threads) == 1
