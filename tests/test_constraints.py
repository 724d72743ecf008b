"""Penalties, tokens held back, and the wire's section of sampling parameters. Pure: no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgespec.core import sampling_section
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.params import ParameterError, SamplingParams
from edgespec.core.text_biases import BANNED
from edgespec.verifying.constraints import Constraints


def biases(params: SamplingParams, text: list[int], turn_start: int, paths: list[list[int]]) -> Any:
    """Each row's biases as a dict; None where no row has any."""
    found = Constraints(params, {2, 3}).of_rows(text, turn_start, paths)
    if found is None or found.biases is None:
        return None
    return [dict(zip(ids.tolist(), values.tolist(), strict=True)) for ids, values in found.biases]


def test_nothing_is_held_back_without_parameters_that_ask_for_it() -> None:
    assert Constraints(SamplingParams(logit_bias={4: 1.0}), {2}).of_rows([1, 2], 1, [[], [5]]) is None


def test_penalties_count_this_turns_tokens_and_those_of_the_rows_path_but_not_the_prompts() -> None:
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    assert biases(params, [7, 7, 8, 9, 9], 2, [[], [9, 4]]) == [
        {8: -0.75, 9: -1.0},
        {8: -0.75, 9: -1.25, 4: -0.75},
    ]


def test_penalties_are_added_to_the_logit_bias() -> None:
    params = SamplingParams(presence_penalty=1.0, logit_bias={8: 3.0, 5: -1.0})
    assert biases(params, [7, 8], 1, [[]]) == [{8: 2.0, 5: -1.0}]


def test_end_tokens_are_held_back_until_the_turn_has_its_least_tokens() -> None:
    params = SamplingParams(min_tokens=2)
    assert biases(params, [7, 8], 1, [[], [6]]) == [{2: BANNED, 3: BANNED}, {}]
    assert biases(params, [7, 8, 8], 1, [[]]) is None


def test_a_repetition_penalty_sees_the_whole_text_and_the_path() -> None:
    found = Constraints(SamplingParams(repetition_penalty=1.5), ()).of_rows([7, 8, 7], 2, [[], [9]])
    assert found is not None and found.seen is not None
    assert [ids.tolist() for ids in found.seen] == [[7, 8], [7, 8, 9]]


@pytest.mark.parametrize(
    "given",
    [
        {"presence_penalty": 0.5, "min_tokens": 3},
        {"frequency_penalty": -1.0, "stop_token_ids": (4, 9)},
        {"bad_words_ids": ((4,), (1, 9))},
        {"guide": Guide.regex("[0-9]+")},
        {"guide": Guide.json_schema({"type": "object"}), "min_tokens": 1},
    ],
)
def test_parameters_come_out_of_the_section_as_they_went_in(given: dict[str, Any]) -> None:
    members, generated = sampling_section.decode(sampling_section.encode(SamplingParams(**given), 5))
    assert SamplingParams(**members) == SamplingParams(**given)
    assert generated == 5


def test_defaults_take_no_byte() -> None:
    assert sampling_section.encode(SamplingParams(), 9) == b""
    assert sampling_section.decode(b"") == ({}, 0)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (b'{"typical_p": 0.5}', "does not know the sampling parameter 'typical_p'"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"generated": -1}', "generated must be"),
        (b'{"guide": {"regex": "a", "lark": "b"}}', "guide must be an object of one member"),
        (b'{"guide": {"poem": "a"}}', "not 'poem'"),
        (b'{"guide": {"json_schema": "' + b"[" * 60_000 + b'"}}', "not JSON"),
        (b'{"generated": [' + b"[]," * 80_000 + b"[]]}", "generated must be"),
        (b'{"stop_token_ids": {"a": "' + b"a" * 200_000 + b'"}}', "must be a list"),
        (b'{"' + b"a" * 200_000 + b'": 1}', "does not know"),
        (b'{"bad_words_ids": [' + b"[1]," * 60_000 + b"[1]]}", "60001 members, and 4096 at most"),
        (b" " * (sampling_section.MAX_BYTES + 1), "at most"),
    ],
)
def test_a_bad_section_is_refused_with_the_reason_in_a_short_sentence(section: bytes, said: str) -> None:
    with pytest.raises(EdgespecError, match=said) as refused:
        sampling_section.decode(section)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 9, "max_new_tokens": 8}, "max_new_tokens"),
        ({"stop_token_ids": (-4,)}, "stop_token_ids"),
        ({"stop_token_ids": ("a",)}, "stop_token_ids"),
        ({"guide": "[0-9]+"}, "guide"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "set logprobs too"),
        ({"guide": Guide.regex("a"), "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        SamplingParams(**given)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("json_schema", "{", "not JSON"),
        ("json_schema", "3", "is an object"),
        ("regex", "", "1 to 65536 characters"),
        ("lark", "a" * 65537, "1 to 65536 characters"),
        ("poem", "a", "not 'poem'"),
    ],
)
def test_a_guide_that_cannot_be_one_is_refused(kind: Any, text: str, said: str) -> None:
    with pytest.raises(EdgespecError, match=said):
        Guide(kind, text)


def test_a_row_without_a_bias_has_arrays_of_the_right_types() -> None:
    found = Constraints(SamplingParams(presence_penalty=1.0), ()).of_rows([1], 1, [[]])
    assert found is not None and found.biases is not None
    assert [(ids.dtype, values.dtype) for ids, values in found.biases] == [(np.int32, np.float32)]


@pytest.mark.parametrize(
    ("text", "path", "banned"),
    [
        ([5, 1], [], {4, 9}),
        ([5, 1], [2], {4, 8}),
        ([5], [1, 2], {4, 8}),
        ([5, 1, 2], [], {4, 8}),
        ([5, 2], [], {4}),
        ([1, 2], [], {4}),
        ([], [5, 1, 2], {4, 8}),
    ],
)
def test_the_last_token_of_a_bad_word_may_not_follow_the_others_in_this_turn(
    text: list[int], path: list[int], banned: set[int]
) -> None:
    params = SamplingParams(bad_words_ids=((4,), (1, 9), (5, 1, 2, 8)))
    [row] = biases(params, [1, *text], 1, [path])
    assert row == dict.fromkeys(banned, BANNED)
