"""Prompt look-up: guesses from the text itself, as sure as they have been right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import HashOracle

from edgespec.planning.simulation import Timing, simulate
from edgespec.speculation.lookup import WINDOW, Lookup
from edgespec.speculation.modes import policy


def guesses(text: list[int]) -> list[int]:
    lookup = Lookup()
    lookup.read(text)
    return [token for token, _ in lookup.guess()]


def test_what_followed_the_last_time_is_guessed() -> None:
    assert guesses([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4])[:3] == [5, 6, 7]


def test_the_longest_match_decides_then_the_newest() -> None:
    assert guesses([1, 2, 7, 9, 2, 8, 5, 1, 2])[:1] == [7]
    assert guesses([2, 7, 9, 2, 8, 5, 2])[:1] == [8]


@given(st.lists(st.integers(0, 1000), unique=True, max_size=30))
def test_nothing_is_guessed_where_nothing_repeats(text: list[int]) -> None:
    assert guesses(text) == []


def test_chances_learn_from_the_text() -> None:
    regular, misleading = Lookup(), Lookup()
    regular.read(list(range(10)) * 20)
    misleading.read([token for i in range(200) for token in (1, 2, 3, 100 + i)])
    assert regular.chance(6) > 0.95
    assert misleading.chance(3) < 0.1
    assert misleading.guess() == [] or misleading.guess()[0][1] < 0.5


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 7))
def test_reading_bit_by_bit_is_reading_at_once(text: list[int], step: int) -> None:
    bitwise, whole = Lookup(), Lookup()
    for end in range(0, len(text), step):
        bitwise.read(text[:end])
    bitwise.read(text)
    whole.read(text)
    assert bitwise.guess() == whole.guess()


def test_memory_is_bounded_for_texts_of_any_length() -> None:
    lookup = Lookup()
    text = [token % 977 for token in range(5 * WINDOW)]
    for end in range(WINDOW, len(text) + 1, WINDOW):
        lookup.read(text[:end])
    assert len(lookup._text) <= 2 * WINDOW
    assert [token for token, _ in lookup.guess()][:2] == [(text[-1] + 1) % 977, (text[-1] + 2) % 977]


@pytest.mark.parametrize("draft_right", [0.0, 0.5])
def test_a_text_that_repeats_itself_takes_fewer_forwards_and_stays_the_targets(draft_right: float) -> None:
    oracle = HashOracle(draft_right=draft_right, exit_right=0.5, span=1)
    forwards = {}
    for lookup in (False, True):
        streamed = policy("stream", 4)
        streamed.lookup = lookup
        timing = Timing(up_ms=lambda: 40.0, down_ms=lambda: 40.0)
        outcome = simulate(oracle, streamed, [1, 2, 3], max_new_tokens=120, timing=timing)
        assert outcome.text == oracle.continuation([1, 2, 3], 120)
        forwards[lookup] = outcome.forwards
    assert forwards[True] < 0.6 * forwards[False]
