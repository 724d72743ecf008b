"""The table of sessions: who is away, for how long, and who must give way."""

from __future__ import annotations

from edgespec.server.session_table import SessionTable


def table(**options: float) -> SessionTable[str]:
    served: SessionTable[str] = SessionTable(**options)  # type: ignore[arg-type]
    for number, name in enumerate(("one", "two", "three"), 1):
        served.add(number, "device", name)
    return served


def test_a_session_expires_when_its_edge_has_been_away_for_the_time() -> None:
    served = table(resume_for_s=60.0)
    served.away(2, now_s=100.0)
    assert served.next_expiry_s(110.0) == 50.0
    assert served.expired(159.9) == [] and served.expired(160.0) == [2]


def test_an_edge_that_returns_does_not_expire() -> None:
    served = table(resume_for_s=60.0)
    served.away(2, now_s=100.0)
    served.returned(2)
    assert served.expired(1000.0) == [] and served.next_expiry_s(1000.0) is None


def test_being_away_again_counts_from_then() -> None:
    served = table(resume_for_s=60.0)
    served.away(2, now_s=100.0)
    served.returned(2)
    served.away(2, now_s=150.0)
    assert served.expired(200.0) == [] and served.expired(210.0) == [2]


def test_of_a_device_with_too_many_away_the_longest_away_must_end() -> None:
    served = table(most_away=2)
    assert served.away(2, now_s=1.0) is None
    assert served.away(1, now_s=2.0) is None
    assert served.away(3, now_s=3.0) == 2


def test_another_devices_sessions_are_left_alone() -> None:
    served = table(most_away=1)
    served.add(4, "other", "four")
    served.away(4, now_s=1.0)
    assert served.away(1, now_s=2.0) is None


def test_the_longest_away_gives_its_room_up_first() -> None:
    served = table()
    assert served.longest_away() is None
    served.away(3, now_s=1.0)
    served.away(1, now_s=2.0)
    assert served.longest_away() == 3
    assert served.remove(3) == "three" and served.longest_away() == 1
    assert served.remove(3) is None and sorted(served) == [1, 2] and len(served) == 2


def test_the_sessions_of_a_device_are_found_whether_it_is_there_or_away() -> None:
    served = table()
    served.add(4, "another device", "four")
    served.away(2, now_s=1.0)
    assert served.of_devices_but(lambda device: device == "another device") == [1, 2, 3]
