"""Admission alone: who is let in, what the others are told, and whose memory is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.server.admission import Admission, Overloaded


def sessions(
    running: int, finished: int = 0, remaining: int = 100, latency_ms: float | None = None
) -> dict[int, Any]:
    finishes = [None] * running + ["stop"] * finished
    return {
        number: SimpleNamespace(
            verifier=SimpleNamespace(finish=finish, remaining=remaining), latency_ms=latency_ms
        )
        for number, finish in enumerate(finishes)
    }


def paced(rows: int) -> float:
    return 28.0 * max(1.0, rows / 16)


def admitted(latency_ms: float | None, offered: int = 200) -> int:
    for running in range(offered):
        try:
            Admission(sessions(running, latency_ms=latency_ms), 1000, paced).check(latency_ms)
        except Overloaded:
            return running
    return offered


def test_so_many_are_let_in_as_keep_the_target_by_what_forwards_cost() -> None:
    assert admitted(50.0) == 20
    assert admitted(100.0) == 40
    assert admitted(None) == 200


def test_one_session_is_let_in_whatever_was_promised() -> None:
    assert admitted(5.0) == 1


def test_more_sessions_than_a_forward_has_rows_take_turns() -> None:
    admission = Admission({}, 1000, paced, forward_rows=64)
    assert admission.token_ms(64) == paced(64)
    assert admission.token_ms(65) == 2 * paced(64)


def test_texts_that_are_finished_cost_nothing() -> None:
    Admission(sessions(3, finished=100, latency_ms=50.0), 1000, paced).check(50.0)


def test_a_refusal_says_when_the_first_of_the_texts_may_end() -> None:
    with pytest.raises(Overloaded, match="promised to the 20 that it serves") as refused:
        Admission(sessions(20, remaining=100, latency_ms=50.0), 1000, paced).check(50.0)
    assert refused.value.retry_after_ms == round(100 * paced(20))


def test_a_refusal_never_sends_away_for_longer_than_half_a_minute() -> None:
    with pytest.raises(Overloaded) as refused:
        Admission(sessions(1, remaining=10_000), 1, paced).check()
    assert refused.value.retry_after_ms == 30_000


def test_sessions_that_can_wait_leave_room_to_one_that_cannot() -> None:
    """50 ms for all, or 50 ms for one and a second for the others: what is promised is kept, no more."""
    loose = Admission(sessions(100, latency_ms=1000.0), 1000, paced)
    loose.check(50.0)
    with pytest.raises(Overloaded, match="50 ms in all"):
        Admission(sessions(100, latency_ms=60.0), 1000, paced).check(50.0)
    with pytest.raises(Overloaded):
        Admission(sessions(20, latency_ms=50.0), 1000, paced).check(60.0)


def test_what_no_forward_allows_is_refused_even_to_one_session() -> None:
    with pytest.raises(Overloaded, match="28 ms to compute even for one session"):
        Admission({}, 1000, paced).check(30.0, own=True)
    Admission({}, 1000, paced).check(41.0, own=True)
