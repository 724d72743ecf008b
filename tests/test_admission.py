"""Admission alone: who is let in, what the others are told, and whose memory is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.server.admission import Admission, Asker
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSettings


def paced(rows: int) -> float:
    return 28.0 * max(1.0, rows / 16)


def admission(
    running: int = 0,
    finished: int = 0,
    remaining: int = 100,
    latency_ms: float | None = None,
    settings: ServerSettings | None = None,
) -> Admission:
    """Beside sessions with this latency target, on a server that promises none by itself."""
    sessions: dict[int, Any] = {
        number: SimpleNamespace(
            verifier=SimpleNamespace(finish=finish, remaining=remaining),
            state=SimpleNamespace(latency_ms=latency_ms),
            holders=frozenset(),
            granted=False,
        )
        for number, finish in enumerate([None] * running + ["stop"] * finished)
    }
    return Admission(sessions, settings or ServerSettings(), paced)


def admitted(latency_ms: float | None, offered: int = 200) -> int:
    """How many sessions are admitted on a server with this target."""
    settings = ServerSettings(latency_ms=latency_ms)
    for running in range(offered):
        try:
            admission(running, latency_ms=latency_ms, settings=settings).admit(None)
        except Refused:
            return running
    return offered


def test_sessions_are_admitted_as_long_as_forwards_keep_the_target() -> None:
    assert admitted(50.0) == 20
    assert admitted(100.0) == 40
    assert admitted(None) == 200


def test_what_is_promised_is_told_as_a_share_of_what_may_be() -> None:
    assert admission(20).promised == 0.0
    full, half = (admission(running, latency_ms=50.0).promised for running in (20, 10))
    assert 0.9 < full <= 1.0 and half < full


def test_one_session_is_admitted_whatever_the_servers_target() -> None:
    assert admitted(5.0) == 1


def test_one_devices_promises_leave_room_for_others() -> None:
    greedy, newcomer = Asker(frozenset({"greedy"})), Asker(frozenset({"newcomer"}))
    sessions: dict[int, Any] = {}
    one = Admission(sessions, ServerSettings(), paced)
    for number in range(200):
        try:
            latency_ms = one.admit(50.0, asker=greedy)
        except Refused as refused:
            assert "beside what greedy has, others need the rest" in str(refused)
            break
        sessions[number] = SimpleNamespace(
            verifier=SimpleNamespace(finish=None, remaining=100),
            state=SimpleNamespace(latency_ms=latency_ms),
            holders=greedy.holders,
            granted=False,
        )
    assert len(sessions) == 15, "three quarters of the 20 that fit"
    assert one.admit(None, asker=newcomer) is None
    assert one.admit(50.0, asker=newcomer) == 50.0


@pytest.mark.parametrize(("latency_ms", "promised"), [(40.0, 6), (80.0, 15)])
def test_a_device_is_promised_no_more_than_its_equal_share_of_forwards_keeps(
    latency_ms: float, promised: int
) -> None:
    """A forward takes 8 ms and 0.7 a row. With a row of another device it may take 10.9 ms, so that 3 rows of this one
    fit; there are 2 such forwards in 28 ms, and 5 in 56."""
    device, other = Asker(frozenset({"device"})), Asker(frozenset({"other"}))
    sessions: dict[int, Any] = {}
    one = Admission(sessions, ServerSettings(), lambda rows: 8.0 + 0.7 * rows)
    with pytest.raises(Refused, match="beside what device has"):
        for number in range(100):
            granted_ms = one.admit(latency_ms, asker=device)
            sessions[number] = SimpleNamespace(
                verifier=SimpleNamespace(finish=None, remaining=100),
                state=SimpleNamespace(latency_ms=granted_ms),
                holders=device.holders,
                granted=False,
            )
    assert len(sessions) == promised
    assert one.admit(latency_ms, asker=other) == latency_ms


def test_promises_of_one_device_keep_no_other_out_when_rows_become_dearer() -> None:
    """16 sessions of a device that are promised 60 ms; rows of a forward then take four times as long."""
    sessions: dict[int, Any] = {
        number: SimpleNamespace(
            verifier=SimpleNamespace(finish=None, remaining=100),
            state=SimpleNamespace(latency_ms=60.0),
            holders=frozenset({"device"}),
            granted=False,
        )
        for number in range(16)
    }
    for row_ms in (0.7, 2.8):
        one = Admission(sessions, ServerSettings(), lambda rows, row_ms=row_ms: 5.0 + row_ms * rows)  # type: ignore[misc]
        assert one.admit(None, asker=Asker(frozenset({"other"}))) is None
        assert one.admit(60.0, asker=Asker(frozenset({"other"}))) == 60.0
        assert one.promised <= 1.0


def test_a_promise_that_a_slower_server_cannot_keep_keeps_nobody_out() -> None:
    session = SimpleNamespace(
        verifier=SimpleNamespace(finish=None, remaining=100),
        state=SimpleNamespace(latency_ms=50.0),
        holders=frozenset({"greedy"}),
        granted=False,
    )
    sessions: dict[int, Any] = {1: session}
    slower = Admission(sessions, ServerSettings(), lambda rows: 2 * paced(rows))
    assert slower.admit(None, asker=Asker(frozenset({"newcomer"}))) is None
    session.granted, session.state.latency_ms = True, 81.0
    with pytest.raises(Refused, match="81 ms in all are promised"):
        Admission(sessions, ServerSettings(), lambda rows: 28.0 + 28.5 * rows).admit(None)


def test_more_sessions_than_a_forward_has_rows_take_turns() -> None:
    one = admission()
    assert one.token_ms(64) == paced(64)
    assert one.token_ms(65) == 2 * paced(64)


def test_texts_that_are_finished_cost_nothing() -> None:
    admission(3, finished=100, latency_ms=50.0).admit(50.0)


def test_a_refusal_says_when_the_first_of_the_texts_may_end() -> None:
    with pytest.raises(Refused, match="promised to the 20 that it serves") as refused:
        admission(20, remaining=100, latency_ms=50.0).admit(50.0)
    assert refused.value.retry_after_ms == round(100 * paced(20))


def test_a_refusal_never_asks_to_wait_for_longer_than_half_a_minute() -> None:
    with pytest.raises(Refused) as refused:
        admission(1, remaining=10_000, settings=ServerSettings(max_sessions=1)).check_room()
    assert refused.value.retry_after_ms == 30_000


def test_sessions_that_can_wait_leave_room_to_one_that_cannot() -> None:
    """50 ms for all, or 50 ms for one and a second for the others: each keeps its own target, no more."""
    admission(100, latency_ms=1000.0).admit(50.0)
    with pytest.raises(Refused, match="50 ms in all"):
        admission(100, latency_ms=60.0).admit(50.0)
    with pytest.raises(Refused):
        admission(20, latency_ms=50.0).admit(60.0)


def test_what_no_forward_allows_is_refused_even_to_one_session() -> None:
    with pytest.raises(Refused, match="28 ms to compute even for one session"):
        admission().admit(30.0)
    assert admission().admit(41.0) == 41.0
