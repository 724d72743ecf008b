"""What a guide may cost: ordinary ones are followed, and a session whose guide costs too much ends alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stubs import serving

from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.guide_limits import GuideBudget, GuideFailed
from edgespec.core.guide_matcher import Guides, allowed_tokens
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.draft_guide import DraftGuide
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

pytest.importorskip("llguidance")
pytestmark = pytest.mark.needs_torch

AMBIGUOUS = Guide.lark('start: a\na: a a | "a" | "b" | a a a')
VALUES: list[tuple[dict[str, Any], Any]] = [
    ({"type": "string", "maxLength": 200}, "hello world"),
    ({"type": ["number", "null"]}, 1.5),
    ({"enum": ["alpha", "beta", "gamma"]}, "gamma"),
    ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, [["x"], ["yy"]]),
    ({"type": "string", "format": "date-time"}, "2024-05-06T07:08:09Z"),
    ({"type": "string", "format": "email"}, "joe.bloggs@example.com"),
    ({"type": "string", "format": "uri"}, "https://example.com/a/b?c=d"),
    ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, "AB-1234"),
]
PROGRAM = r"""
start: statement+
statement: "let " NAME "=" expr ";\n" | "if " expr block ("else " block)? | "return " expr ";\n"
block: "{\n" statement* "}\n"
expr: sum (("=="|"<"|">") sum)*
sum: product (("+"|"-") product)*
product: atom (("*"|"/") atom)*
atom: /[0-9]+/ | NAME ("(" (expr ("," expr)*)? ")")? | "(" expr ")" | /"[^"\n]*"/
NAME: /[a-zA-Z_][a-zA-Z0-9_]*/
"""


def schema(count: int, required: bool) -> tuple[Guide, str]:
    properties = {f"field_{i}": VALUES[i % len(VALUES)] for i in range(count)}
    described = {name: one for name, (one, _) in properties.items()}
    text = json.dumps({name: value for name, (_, value) in properties.items()}, separators=(",", ":"))
    whole = {"type": "object", "properties": described, "additionalProperties": False}
    return Guide.json_schema(whole | {"required": list(described) if required else []}), text


def patterned(count: int) -> Guide:
    properties = {
        f"f{i}": {"type": "string", "pattern": f"^[a-z]{{1,{i % 60 + 1}}}{i}$"} for i in range(count)
    }
    return Guide.json_schema({"type": "object", "properties": properties})


ORDINARY = [
    *(schema(count, required) for count in (20, 200) for required in (True, False)),
    (Guide.json_schema({"type": "string", "maxLength": 4000}), json.dumps("the quick brown fox " * 9)),
    (Guide.regex(r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"), "2024-05-06"),
    (Guide.regex(r"[a-zA-Z0-9._%+-]{1,64}@([a-zA-Z0-9-]{1,63}\.){1,8}[a-z]{2,24}"), "joe.b@mail.example.org"),
    (
        Guide.regex(r"https?://[-a-zA-Z0-9.]{1,256}(:[0-9]{1,5})?(/[-a-zA-Z0-9@:%_+.~#?&/=]*)?"),
        "https://a.b/c?d=e",
    ),
    (Guide.lark(PROGRAM), 'let x=f(1,2*(3+y))-4;\nif x<3{\nreturn "abc";\n}\nelse {\nreturn g();\n}\n'),
    (Guide.choice([f"choice number {number}" for number in range(500)]), "choice number 321"),
]


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


@pytest.fixture(scope="module")
def tokenizer(engine: DraftEngine) -> Tokenizer:
    return Tokenizer.load(engine.tokenizer_path)


def guides_of(tokenizer: Tokenizer, engine: DraftEngine, clock_s: Any = None) -> Guides:
    return Guides(Path(engine.tokenizer_path), tokenizer.vocabulary_size, tokenizer.end_tokens, clock_s)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    from edgespec.model.target import Target

    with serving(Target.load(None, threads=1)) as one:
        yield "127.0.0.1", one.port


def ticking(step_s: float) -> Any:
    ticks = itertools.count()
    return lambda: next(ticks) * step_s


@pytest.mark.parametrize("number", range(len(ORDINARY)))
def test_ordinary_guides_stay_within_the_limits(
    engine: DraftEngine, tokenizer: Tokenizer, number: int
) -> None:
    guide, text = ORDINARY[number]
    matcher = guides_of(tokenizer, engine).matcher(guide)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for position, token in enumerate(tokens):
        [allowed] = allowed_tokens(matcher.masks(tokens[:position], [[]]), tokenizer.vocabulary_size)
        assert allowed[token], text[:position]
    [allowed] = allowed_tokens(matcher.masks(tokens, [[]]), tokenizer.vocabulary_size)
    assert allowed[list(tokenizer.end_tokens)].any()


def test_a_budget_ends_at_five_milliseconds_a_token_for_sixteen_tokens() -> None:
    budget = GuideBudget(ticking(0.0051))
    budget.begin()
    for _ in range(15):
        budget.charge(1)
    with pytest.raises(GuideFailed, match=r"takes 5\.1 ms a token to follow, and 1 ms is the most: make it"):
        budget.charge(1)


def test_a_budget_has_no_end_for_ordinary_tokens_and_forgets_a_burst() -> None:
    now_s = 0.0
    budget = GuideBudget(lambda: now_s)
    for _ in range(100):
        budget.begin()
        now_s += 0.06
        budget.charge(1)
        now_s += 10.0  # between forwards, others' time
        budget.begin()
        now_s += 0.0002 * 100
        budget.charge(100)


def test_a_text_and_rows_that_take_too_long_are_left_half_way(
    engine: DraftEngine, tokenizer: Tokenizer
) -> None:
    asked = 0

    def clock_s() -> float:
        nonlocal asked
        asked += 1
        return asked * 0.02

    matcher = guides_of(tokenizer, engine, clock_s).matcher(Guide.regex("a*"))
    with pytest.raises(GuideFailed, match="ms a token to follow"):
        matcher.masks([], [[]] * 1000)
    assert asked < 16


def test_a_guide_that_is_too_large_is_found_before_its_session_opens(
    engine: DraftEngine, tokenizer: Tokenizer
) -> None:
    with pytest.raises(EdgespecError, match="too large or too ambiguous to follow: make it smaller"):
        guides_of(tokenizer, engine).matcher(patterned(900))


def test_a_matcher_whose_parser_gives_up_does_not_end_the_text(
    engine: DraftEngine, tokenizer: Tokenizer
) -> None:
    """llguidance's own mask has only the end token then. The draft goes on without a guide."""
    inner = json.loads(patterned(900).text)
    outer = Guide.json_schema({"type": "array", "prefixItems": [{"type": "string"}, inner], "minItems": 2})
    tokens = tokenizer.encode('["x",{', add_special_tokens=False)
    matcher = guides_of(tokenizer, engine).matcher(outer)
    matcher.masks(tokens[:1], [[]])
    with pytest.raises(GuideFailed, match="too large or too ambiguous"):
        matcher.masks(tokens[:1], [tokens[1:]])
    guide = DraftGuide(matcher, tokenizer.vocabulary_size)
    assert np.all(guide.allowed(tokens, [[], tokens]))


def test_a_text_that_does_not_match_its_guide_says_so(engine: DraftEngine, tokenizer: Tokenizer) -> None:
    matcher = guides_of(tokenizer, engine).matcher(Guide.regex("ab"))
    with pytest.raises(GuideFailed, match="the text does not match its guide"):
        matcher.masks(tokenizer.encode("zq", add_special_tokens=False), [[]])


def session_of(server: tuple[str, int], engine: DraftEngine, guide: Guide | None = None) -> Session:
    """Its text does not end by itself under a guide, before it has 400 tokens."""
    params = SamplingParams(max_new_tokens=400, guide=guide, min_tokens=400)
    session = Session(server, engine, params, mode="cloud")
    session.prompt("# The answer is ")
    return session


def test_a_session_ends_with_parameter_and_costs_no_other(
    server: tuple[str, int], engine: DraftEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with session_of(server, engine) as alone:
        list(alone)
    with session_of(server, engine) as honest:
        steps = iter(honest)
        next(steps)
        for guide in (patterned(900), AMBIGUOUS):
            with (
                pytest.raises(EdgespecError, match=r"too large or too ambiguous|ms a token to follow"),
                session_of(server, load_draft(bundled_engine()), guide) as costly,
            ):
                list(costly)
        list(steps)
        assert honest.tokens == alone.tokens
    assert not [record for record in caplog.records if record.exc_info]
