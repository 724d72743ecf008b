"""Whose key-value memory is given up for a session that needs some."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.server.giving_way import giving_way

LOOKS = 4
"""At each session, in one decision."""


class Held:
    """A session that has this many slots. looked_at: how often whether it has something to run was asked."""

    def __init__(self, number: int, holder: str, slots: int, ready: bool, finish: str | None = None) -> None:
        self.number, self.holder, self.holders = number, holder, frozenset({holder})
        self.cache = SimpleNamespace(slots=slots)
        self.statistics = SimpleNamespace(opened_s=float(number))
        self.state = SimpleNamespace(concluded_s=float(number))
        self.looked_at = 0
        self._ready, self._finish = ready, finish

    @property
    def verifier(self) -> Any:
        self.looked_at += 1
        return SimpleNamespace(ready=self._ready, finish=self._finish)


def numbers(holder: str, missing: int, others: list[Any]) -> list[int]:
    asker: Any = SimpleNamespace(holder=holder, holders=frozenset({holder}))
    return [one.number for one in giving_way(asker, missing, missing, others)]


@pytest.mark.parametrize(
    ("holder", "missing", "numbers_of"),
    [
        ("a", 10, [1]),
        ("b", 10, [2]),
        ("b", 25, [2, 1, 3]),
        ("b", 100, []),
    ],
    ids=["its own first", "the longest idle of others", "as many as it takes", "none in vain"],
)
def test_idle_sessions_go_first(holder: str, missing: int, numbers_of: list[int]) -> None:
    others = [Held(number, "ba"[number % 2], 10, False, "length") for number in (1, 2, 3)]
    assert numbers(holder, missing, others) == numbers_of


@pytest.mark.parametrize(
    ("missing", "numbers_of"),
    [(15, [6]), (8, [1]), (25, [6, 1]), (75, [])],
    ids=["the smallest that suffices", "a smaller one", "else the largest", "no more than its share"],
)
def test_then_sessions_of_the_device_that_has_most(missing: int, numbers_of: list[int]) -> None:
    greedy = [Held(number, "greedy", 10 if number == 1 else 20, ready=True) for number in range(1, 7)]
    modest = [Held(10, "modest", 5, ready=True), Held(11, "modest", 5, ready=True)]
    assert numbers("asker", missing, [*modest, *greedy]) == numbers_of


def test_a_devices_only_session_is_left_to_it() -> None:
    assert numbers("asker", 10, [Held(1, "greedy", 1000, ready=True)]) == []


@pytest.mark.parametrize("ready", [True, False])
def test_each_session_is_looked_at_a_few_times_however_much_is_missing(ready: bool) -> None:
    others = [Held(number, "greedy", 10, ready, None if ready else "length") for number in range(500)]
    assert numbers("asker", 6000, others) == []
    assert len(numbers("asker", 2400, others)) in (0, 240)
    assert max(one.looked_at for one in others) <= 2 * LOOKS
