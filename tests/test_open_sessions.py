"""The open sessions: whose edge is away, for how long, and which must give way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.core.server_options import ServerOptions
from edgespec.server import open_sessions
from edgespec.server.open_sessions import OpenSessions
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits


class Gate:
    """Disconnects nobody; knows the identities `known`."""

    listener = SimpleNamespace(disconnect=lambda number: None)
    audit = SimpleNamespace(record=lambda event, who, **facts: None)
    known = (b"one", b"other")

    def knows(self, identity: bytes) -> bool:
        return identity in self.known


def opened(*identities: bytes) -> OpenSessions:
    sessions = OpenSessions(VerifyingLoop(), Gate(), resume_for_s=60.0)  # type: ignore[arg-type]
    for number, identity in enumerate(identities, 1):
        verifier = Verifier([1, 2], 10, ServerOptions(), VerifierLimits(100))
        one: Any = SimpleNamespace(
            number=number,
            identity=identity,
            state=VerifyingSession(number, identity, verifier, 0.0),
            verifier=verifier,
            holders=frozenset({identity.decode()}),
            holder=identity.decode(),
            summary=dict,
            release=lambda: None,
            turn_ends=lambda: None,
            close_drafter=lambda: None,
        )
        sessions.add(one)
    return sessions


def away(sessions: OpenSessions, number: int, now_s: float) -> None:
    sessions.away(sessions.table[number], now_s)


def left(sessions: OpenSessions) -> list[int]:
    assert sorted(sessions.loop.sessions) == sorted(sessions.table)
    return sorted(sessions.table)


def test_a_session_expires_when_its_edge_has_been_away_for_the_time() -> None:
    sessions = opened(b"one", b"one")
    away(sessions, 2, 100.0)
    assert sessions.next_expiry_s(110.0) == 50.0
    sessions.expire(159.9)
    assert left(sessions) == [1, 2]
    sessions.expire(160.0)
    assert left(sessions) == [1]


def test_an_edge_that_returns_does_not_expire_and_being_away_again_counts_from_then() -> None:
    sessions = opened(b"one", b"one")
    away(sessions, 2, 100.0)
    sessions.table[2].state.set_away(None)
    assert sessions.next_expiry_s(1000.0) is None
    away(sessions, 2, 1000.0)
    assert sessions.next_expiry_s(1010.0) == 50.0


def test_of_a_device_with_too_many_away_the_longest_away_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sessions, "MOST_AWAY", 2)
    sessions = opened(b"one", b"one", b"one", b"other")
    for now_s, number in enumerate((4, 2, 1)):
        away(sessions, number, float(now_s))
    assert left(sessions) == [1, 2, 3, 4]
    away(sessions, 3, 3.0)
    assert left(sessions) == [1, 3, 4]


def forwards_left(sessions: OpenSessions, number: int) -> int:
    state = sessions.table[number].state
    count = 0
    while state.wait_s(0.0) is not None:
        state.verifier.forwards += 1
        count += 1
    return count


def test_sessions_of_a_device_that_is_away_have_fewer_forwards_each() -> None:
    sessions = opened(b"one", b"one", b"other", b"one")
    for number in (1, 2, 3, 4):
        away(sessions, number, float(number))
    assert [forwards_left(sessions, number) for number in (1, 2, 3, 4)] == [64, 32, 64, 21]


def test_the_longest_away_gives_its_room_up_first() -> None:
    sessions = opened(b"one", b"one", b"one")
    sessions.make_room()
    away(sessions, 3, 1.0)
    away(sessions, 1, 2.0)
    sessions.make_room()
    assert left(sessions) == [1, 2]
    sessions.make_room()
    assert left(sessions) == [2]


def test_who_asks_for_room_gives_its_own_up_first_and_then_whoever_has_most() -> None:
    sessions = opened(b"one", b"other", b"other", b"asker")
    for now_s, number in enumerate((1, 2, 3, 4)):
        away(sessions, number, float(now_s))
    sessions.make_room(frozenset({"asker"}))
    assert left(sessions) == [1, 2, 3]
    sessions.make_room(frozenset({"asker"}))
    assert left(sessions) == [1, 3]


def test_the_sessions_of_a_device_that_may_not_connect_end_whether_it_is_there_or_away() -> None:
    sessions = opened(b"void", b"void", b"other")
    away(sessions, 2, 1.0)
    sessions.end_unknown()
    assert left(sessions) == [3]
