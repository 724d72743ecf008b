"""Guides: what a matcher allows behind each path of a tree, and texts that match what was asked for, in every mode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stubs import serving

from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.guide_matcher import Guides
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import POLICIES
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.server.server_drafter import ServerDrafters

pytest.importorskip("llguidance")
pytestmark = pytest.mark.needs_torch

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


@pytest.fixture(scope="module")
def tokenizer(engine: DraftEngine) -> Tokenizer:
    return Tokenizer.load(engine.tokenizer_path)


@pytest.fixture(scope="module")
def guides(engine: DraftEngine, tokenizer: Tokenizer) -> Guides:
    return Guides(Path(engine.tokenizer_path), tokenizer.vocabulary_size, tokenizer.end_tokens)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    from edgespec.model.target import Target

    target = Target.load(None, dtype="float64", threads=1)
    drafters = ServerDrafters(bundled_engine(), target.vocabulary_hash, target.vocabulary_size, 4, None)
    with serving(target, server_drafters=drafters) as one:
        yield "127.0.0.1", one.port


def allowed(mask: np.ndarray[Any, np.dtype[np.int32]], token: int) -> bool:
    return bool(mask.view(np.uint32)[token // 32] >> np.uint32(token % 32) & 1)


def test_each_row_has_what_is_allowed_behind_its_own_path(guides: Guides, tokenizer: Tokenizer) -> None:
    matcher = guides.matcher(Guide.regex("ab|cd"))
    a, b, c, d = (tokenizer.encode(one, add_special_tokens=False)[0] for one in "abcd")
    whole, root, behind_a, behind_c, wrong = matcher.masks([], [[a, b], [], [a], [c], [d]])
    assert [allowed(whole, token) for token in (a, *tokenizer.end_tokens)] == [False, True]
    assert [allowed(root, token) for token in (a, b, c, d)] == [True, False, True, False]
    assert [allowed(behind_a, token) for token in (a, b, c, d)] == [False, True, False, False]
    assert [allowed(behind_c, token) for token in (a, b, c, d)] == [False, False, False, True]
    assert wrong.tolist() == [-1] * len(wrong)
    [behind_ab] = matcher.masks([a, b], [[]])
    assert [allowed(behind_ab, token) for token in (a, *tokenizer.end_tokens)] == [False, True]


def test_a_new_turn_begins_with_the_whole_guide(guides: Guides, tokenizer: Tokenizer) -> None:
    matcher = guides.matcher(Guide.regex("ab"))
    a, b = (tokenizer.encode(one, add_special_tokens=False)[0] for one in "ab")
    [first] = matcher.masks([], [[]])
    [behind] = matcher.masks([a, b], [[]])
    [again] = matcher.masks([], [[]])
    assert again.tolist() == first.tolist() != behind.tolist()


@pytest.mark.parametrize(
    "guide",
    [Guide.regex("(["), Guide.lark("start: missing_rule"), Guide.json_schema({"type": "poem"})],
    ids=str,
)
def test_a_guide_that_is_none_is_refused_with_the_reason(guides: Guides, guide: Guide) -> None:
    with pytest.raises(EdgespecError, match=f"the {guide.kind} cannot be used: ."):
        guides.matcher(guide)


def test_a_target_that_cannot_be_guided_says_why() -> None:
    with pytest.raises(EdgespecError, match=r"no tokenizer\.json"):
        Guides(None, 64, (2,)).matcher(Guide.regex("a"))


def generate(
    server: tuple[str, int], engine: DraftEngine, mode: str, params: SamplingParams
) -> tuple[list[int], str]:
    with Session(server, engine, params, mode=mode) as session:
        session.prompt("# The answer is ")
        for _ in session:
            pass
        return session.tokens, session.text


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_mode_gives_the_same_text_of_a_schema(server: tuple[str, int], temperature: float) -> None:
    """All modes at once."""
    params = SamplingParams(
        temperature=temperature, seed=3, max_new_tokens=60, guide=Guide.json_schema(SCHEMA)
    )

    def written(mode: str) -> tuple[list[int], str]:
        return generate(server, load_draft(bundled_engine()), mode, params)

    with ThreadPoolExecutor(len(POLICIES)) as pool:
        texts = dict(zip(POLICIES, pool.map(written, POLICIES), strict=True))
    assert {mode: text for mode, text in texts.items() if text != texts["cloud"]} == {}
    answer = json.loads(texts["cloud"][1])
    assert set(answer) == {"name", "count"} and answer["count"] <= 99


def test_a_text_that_matches_an_expression_ends_where_the_expression_does(
    server: tuple[str, int], engine: DraftEngine
) -> None:
    params = SamplingParams(max_new_tokens=40, guide=Guide.regex("[a-c]{3}-[0-9]{2}"))
    _, text = generate(server, engine, "auto", params)
    assert re.fullmatch("[a-c]{3}-[0-9]{2}", text)


def test_log_probabilities_under_a_guide_are_those_of_the_raw_logits(
    server: tuple[str, int], engine: DraftEngine
) -> None:
    """One token is possible and certain under the guide; under the raw logits it is not."""
    params = SamplingParams(max_new_tokens=4, guide=Guide.regex("zq"), logprobs=True)
    with Session(server, engine, params, mode="cloud") as session:
        session.prompt("# The answer is ")
        logprobs = [value for step in session for value in step.logprobs or ()]
    assert logprobs[0] < -1.0


def test_the_server_refuses_a_bad_guide_and_goes_on(server: tuple[str, int], engine: DraftEngine) -> None:
    with pytest.raises(EdgespecError, match="the regex cannot be used"):
        generate(server, engine, "cloud", SamplingParams(guide=Guide.regex("([")))
    assert generate(server, engine, "cloud", SamplingParams(max_new_tokens=2))[0]
