"""Prompt lookup: guesses from the text itself, as sure as they have been right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_models import HashModel

from edgespec.core.prompt_lookup import WINDOW, PromptLookup
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.modes import policy
from edgespec.sim.simulation import Timing, simulate


def guesses(text: list[int]) -> list[int]:
    prompt_lookup = PromptLookup()
    prompt_lookup.read(text)
    return [token for token, _ in prompt_lookup.guess(text)]


def test_what_followed_the_last_time_is_guessed() -> None:
    assert guesses([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4])[:3] == [5, 6, 7]


def test_the_longest_match_decides_then_the_newest() -> None:
    assert guesses([1, 2, 7, 9, 2, 8, 5, 1, 2])[:1] == [7]
    assert guesses([2, 7, 9, 2, 8, 5, 2])[:1] == [8]


@given(st.lists(st.integers(0, 1000), unique=True, max_size=30))
def test_nothing_is_guessed_where_nothing_repeats(text: list[int]) -> None:
    assert guesses(text) == []


def test_probabilities_learn_from_the_text() -> None:
    regular, misleading = PromptLookup(), PromptLookup()
    steady, changing = list(range(10)) * 20, [token for i in range(200) for token in (1, 2, 3, 100 + i)]
    regular.read(steady)
    misleading.read([*changing, 1, 2, 3])
    assert regular.guess(steady)[0] == (0, pytest.approx(0.98, abs=0.03))
    assert misleading.guess([*changing, 1, 2, 3]) == []


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 7))
def test_reading_bit_by_bit_is_reading_at_once(text: list[int], step: int) -> None:
    bitwise, whole = PromptLookup(), PromptLookup()
    for end in range(0, len(text), step):
        bitwise.read(text[:end])
    bitwise.read(text)
    whole.read(text)
    assert bitwise.guess(text) == whole.guess(text)


def test_memory_is_bounded_for_texts_of_any_length() -> None:
    prompt_lookup = PromptLookup()
    text = [token % 977 for token in range(5 * WINDOW)]
    for end in range(WINDOW, len(text) + 1, WINDOW):
        prompt_lookup.read(text[:end])
    assert len(prompt_lookup) <= WINDOW
    following = [(text[-1] + 1) % 977, (text[-1] + 2) % 977]
    assert [token for token, _ in prompt_lookup.guess(text)][:2] == following


def test_mode_lookup_takes_fewer_forwards_than_cloud_where_a_text_repeats_itself_and_cloud_stays_plain() -> (
    None
):
    scripted = HashModel(span=1)
    forwards = {}
    for mode in ("cloud", "lookup"):
        outcome = simulate(scripted, policy(mode), [1, 2, 3], max_new_tokens=120)
        assert outcome.text == scripted.continuation([1, 2, 3], 120)
        forwards[mode] = outcome.forwards
    assert forwards["cloud"] == 120 and forwards["lookup"] < 60


@pytest.mark.parametrize("draft_right", [0.0, 0.5])
def test_a_text_that_repeats_itself_takes_fewer_forwards_and_stays_the_targets(draft_right: float) -> None:
    scripted = HashModel(draft_right=draft_right, exit_right=0.5, span=1)
    forwards = {}
    for prompt_lookup in (False, True):
        streamed = policy("stream", 4)
        streamed.options = ServerOptions(fill=True, prompt_lookup=prompt_lookup, hint_threshold=0.3)
        timing = Timing(up_ms=lambda: 40.0, down_ms=lambda: 40.0)
        outcome = simulate(scripted, streamed, [1, 2, 3], max_new_tokens=120, timing=timing)
        assert outcome.text == scripted.continuation([1, 2, 3], 120)
        forwards[prompt_lookup] = outcome.forwards
    assert forwards[True] < 0.6 * forwards[False]
