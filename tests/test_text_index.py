"""The index of texts: the longest match decides, what followed is counted, and the oldest tokens fall out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec import _native
from edgespec.core.lookup import Guess, LookupRates


def index_of(*texts: list[int], most_tokens: int = 1 << 12, shortest_match: int = 1) -> _native.TextIndex:
    index = _native.TextIndex(most_tokens, shortest_match)
    for text in texts:
        index.add(text)
        index.end_text()
    return index


def test_the_longest_match_is_found_and_its_continuations_are_counted() -> None:
    index = index_of([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 9], [7, 3, 5])
    assert index.find([8, 1, 2], [3]) == (3, 3, [(4, 2), (9, 1)])
    assert index.find([7], [3]) == (2, 1, [(5, 1)])


def test_no_match_goes_beyond_a_text() -> None:
    assert index_of([1, 2], [3, 4]).find([1, 2]) == (0, 0, [])
    assert index_of([1, 2], [3, 4]).find([2, 3])[0] == 1


def test_matches_shorter_than_the_shortest_are_not_found() -> None:
    index = index_of([1, 2, 3], shortest_match=2)
    assert index.find([9, 2])[0] == 0
    assert index.find([1, 2]) == (2, 1, [(3, 1)])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.lists(st.integers(0, 3), max_size=20))
def test_it_finds_what_a_search_through_the_text_finds(text: list[int], context: list[int]) -> None:
    length, total, choices = index_of(text).find(context)
    matches = [
        next(
            (n for n in range(16, 0, -1) if end >= n <= len(context) and text[end - n : end] == context[-n:]),
            0,
        )
        for end in range(1, len(text))
    ]
    longest = max(matches, default=0)
    assert length == longest, "of the newest entries, at least one has the longest match"
    followed = [text[end] for end, match in enumerate(matches, 1) if match == longest > 0]
    assert total <= 16 and sum(count for _, count in choices) == total
    assert {token for token, _ in choices} <= set(followed)


def test_memory_is_bounded_and_the_oldest_falls_out() -> None:
    index = index_of([1, 2, 3], most_tokens=1 << 12)
    before = None
    for start in range(10, 60_000, 10):
        index.add(list(range(start, start + 10)))
        before = max(before or 0, index.bytes)
    assert len(index) == 1 << 12
    assert index.bytes == before <= (1 << 12) * _native.TextIndex.bytes_per_token(1)
    assert index.find([1, 2])[0] == 0
    assert index.find([59_990, 59_991])[2] == [(59_992, 1)]


def test_texts_at_once_are_texts_one_by_one() -> None:
    at_once = _native.TextIndex(1 << 12)
    at_once.add_texts(np.array([1, 2, 3, -1, 1, 2, 4, -1], dtype=np.int32))
    assert at_once.find([1, 2]) == index_of([1, 2, 3], [1, 2, 4]).find([1, 2])


@pytest.mark.parametrize("tokens", [[-1], [1 << 40], ["a"], [1.5]])
def test_what_is_no_token_is_refused(tokens: list[int]) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        _native.TextIndex(16).add(tokens)


def test_a_cleared_index_is_empty() -> None:
    index = index_of([1, 2, 3])
    index.clear()
    assert len(index) == 0 and index.find([1, 2])[0] == 0


def test_how_likely_guesses_are_is_learnt_by_their_kind() -> None:
    rates = LookupRates()
    short, long = Guess(2, 1, [(5, 1)]), Guess(16, 4, [(5, 4)])
    assert rates.rate(short) < rates.rate(long)
    assert rates.rate(long, "contradicts") < rates.rate(long)
    for _ in range(100):
        rates.observe(short, 5)
        rates.observe(long, 6)
    assert rates.rate(short) > 0.9 and rates.rate(long) < 0.1


def test_probabilities_of_a_guess_never_exceed_one() -> None:
    rates = LookupRates()
    for _ in range(100):
        rates.observe(Guess(4, 5, [(1, 3), (2, 2)]), 1)
    found = rates.probabilities(Guess(4, 5, [(1, 3), (2, 2)]))
    assert [token for token, _ in found] == [1, 2] and sum(share for _, share in found) <= 1
