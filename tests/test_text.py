"""The text stream: the same text however tokens are split, whole characters only, stop strings cut exactly."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.core.text_stream import TextStream


def from_bytes(ids: Sequence[int]) -> str:
    """Every token is a byte: the hardest case of byte-level BPE."""
    return bytes(ids).decode("utf-8", errors="replace")


def from_characters(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def split(tokens: list[int], cuts: list[int]) -> list[list[int]]:
    edges = sorted({0, len(tokens), *(cut % (len(tokens) + 1) for cut in cuts)})
    return [tokens[start:end] for start, end in itertools.pairwise(edges)]


def run(stream: TextStream, blocks: Sequence[list[int]]) -> tuple[str, int]:
    """The whole text and the tokens used."""
    text, used = "", 0
    for block in blocks:
        piece = stream.push(block)
        text += piece.text
        used += piece.tokens_used
    return text + stream.flush(), used


def reference(text: str, stops: Sequence[str]) -> str:
    """Read character by character, cut before the first stop string to be completed (the longest, of several)."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


any_text = st.text(alphabet="aé€😀\n ", max_size=40)
cut_points = st.lists(st.integers(0, 200), max_size=8)
stop_strings = st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), max_size=3)


@given(any_text, cut_points)
def test_any_split_gives_the_text(text: str, cuts: list[int]) -> None:
    tokens = list(text.encode())
    assert run(TextStream(from_bytes), split(tokens, cuts)) == (text, len(tokens))


@given(st.binary(max_size=60), cut_points)
def test_broken_utf8_comes_out_as_the_decoder_shows_it(tokens: bytes, cuts: list[int]) -> None:
    text, _ = run(TextStream(from_bytes), split(list(tokens), cuts))
    assert text == tokens.decode("utf-8", errors="replace")


@given(st.text(alphabet="ab€", max_size=40), stop_strings, cut_points)
def test_stop_strings_cut_as_if_read_character_by_character(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    tokens = list(text.encode())
    streamed, used = run(TextStream(from_bytes, stops), split(tokens, cuts))
    expected = reference(text, stops)
    assert streamed == expected
    if expected == text:
        assert used == len(tokens)
    else:
        assert any(text.encode()[:used].decode(errors="ignore") == expected + stop for stop in stops)


@given(st.text(alphabet="ab€", max_size=30), stop_strings)
def test_text_handed_out_is_never_taken_back(text: str, stops: list[str]) -> None:
    stream = TextStream(from_bytes, stops)
    shown = ""
    for token in text.encode():
        shown += stream.push([token]).text
        assert reference(text, stops).startswith(shown)


def test_a_character_across_tokens_waits_for_its_last_byte() -> None:
    stream = TextStream(from_bytes)
    first, *middle, last = "😀".encode()
    assert stream.push([first]).text == ""
    assert stream.push(middle).text == ""
    assert stream.push([last]).text == "😀"


def test_a_stop_inside_a_block_leaves_its_later_tokens_unused() -> None:
    piece = TextStream(from_characters, ("END",)).push([ord(c) for c in "oneENDtwo"])
    assert (piece.text, piece.tokens_used, piece.stopped) == ("one", 6, "END")


def test_a_stop_across_blocks_is_held_back_until_decided() -> None:
    stream = TextStream(from_characters, ("END",))
    assert stream.push([ord(c) for c in "oneE"]).text == "one"
    assert stream.push([ord("N")]).text == ""
    assert stream.push([ord("X")]).text == "ENX"
    assert stream.push([ord(c) for c in "EN"]).text == ""
    assert stream.flush() == "EN"


def test_nothing_comes_after_a_stop() -> None:
    stream = TextStream(from_characters, ("b",))
    assert stream.push([97, 98]).stopped == "b"
    assert stream.push([99]) == type(stream.push([]))("", 0, "b")
    assert stream.flush() == ""


def test_overlapping_stops_end_at_the_first_completed() -> None:
    assert TextStream(from_characters, ("abcd", "c")).push([ord(c) for c in "xabcd"]).text == "xab"
    assert TextStream(from_characters, ("b", "ab")).push([ord(c) for c in "xab"]).text == "x"


@pytest.mark.parametrize("token", [0x80, ord("a"), None], ids=["broken", "plain", "without text"])
def test_the_work_a_token_is_bounded(token: int | None) -> None:
    """Linear time, whatever the tokens are: what is decoded never grows with the text."""
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return from_bytes([i for i in ids if i != 256])

    stream = TextStream(decode)
    for _ in range(400):
        stream.push([256 if token is None else token])
    assert longest <= 17


def test_the_context_keeps_the_first_tokens_leading_space() -> None:
    def sentencepiece(ids: Sequence[int]) -> str:
        words = ["▁one", "▁two", "▁three"]
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    assert TextStream(sentencepiece).push([1]).text == "two"
    stream = TextStream(sentencepiece, context=[0])
    assert [stream.push([i]).text for i in (1, 2)] == [" two", " three"]


SPECIAL = {1: "<|end|>", 2: "<|call|>"}


def without_special(ids: Sequence[int]) -> str:
    return "".join(chr(token) for token in ids if token not in SPECIAL)


@pytest.mark.parametrize(
    ("stop", "tokens", "text", "used"),
    [
        ("<|end|>", [97, 98, 1, 99], "ab", 3),
        ("b<|end|>", [97, 98, 1, 99], "a", 3),
        ("<|end|>c", [97, 2, 1, 99], "a", 4),
        ("<|end|><|call|>", [1, 97, 1, 2, 98], "a", 4),
        ("<|end|>", [97, 98], "ab", 2),
        ("x", [97, 1, 98, 120], "ab", 4),
        ("ab", [97, 1, 98], "", 3),
    ],
)
def test_a_stop_string_may_hold_special_tokens(stop: str, tokens: list[int], text: str, used: int) -> None:
    stream = TextStream(without_special, [stop], special=SPECIAL)
    assert run(stream, [[token] for token in tokens]) == (text, used)
