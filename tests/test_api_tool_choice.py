"""An answer that must call a tool is held to the tool's schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("llguidance")

from stubs import OWN

from edgespec.api.errors import ApiError
from edgespec.api.schema import ChatRequest
from edgespec.api.tool_calls import Family, ToolCallParser
from edgespec.api.tool_choice import called_tools, tools_guide
from edgespec.core.guide import Guide
from edgespec.core.guide_matcher import Guides


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("move", metres={"type": "number"}), tool("stop")]
MOVE = {"name": "move", "arguments": {"metres": 2}}
STOP = {"name": "stop", "arguments": {}}


def request(**more: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {"messages": [{"role": "user", "content": "go"}], "tools": TOOLS, **more}
    )


def hermes(*calls: dict[str, Any]) -> str:
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


def holds(family: Family, choice: Any, text: str) -> bool:
    """Whether an answer under this tool_choice may be exactly this text."""
    guide = tools_guide(family, request(tool_choice=choice))
    assert guide is not None
    return matches(guide, text)


def matches(guide: Guide, text: str) -> bool:
    matcher = Guides(Path(str(OWN.path)), OWN.vocabulary_size, OWN.end_tokens).matcher(guide)
    tokens = OWN.encode(text, add_special_tokens=False)
    behind = [*tokens, OWN.end_tokens[0]]
    for length, token in enumerate(behind):
        [mask] = matcher.masks(behind[:length], [[]])
        if not int(mask.view("uint32")[token // 32]) >> (token % 32) & 1:
            return False
    return True


NAMED = {"type": "function", "function": {"name": "stop"}}


@pytest.mark.parametrize(
    ("choice", "text", "allowed"),
    [
        ("required", hermes(MOVE), True),
        ("required", hermes(STOP, MOVE), True),
        ("required", "Hello.", False),
        ("required", hermes({**MOVE, "arguments": {"metres": "far"}}), False),
        ("required", hermes({"name": "fly", "arguments": {}}), False),
        (NAMED, hermes(STOP), True),
        (NAMED, hermes(MOVE), False),
        (NAMED, hermes(STOP, STOP), False),
    ],
)
def test_a_hermes_model_can_say_nothing_but_calls(choice: Any, text: str, allowed: bool) -> None:
    assert holds("hermes", choice, text) == allowed


def test_a_llama_model_writes_its_call_alone() -> None:
    call = {"name": "move", "parameters": {"metres": 2}}
    assert holds("llama", "required", json.dumps(call))
    assert not holds("llama", "required", f"Sure: {json.dumps(call)}")


STRICT = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]
LLAMA_MOVE = {"name": "move", "parameters": {"metres": 2}}


@pytest.mark.parametrize(
    ("family", "text", "allowed"),
    [
        ("hermes", "Hello.", True),
        ("hermes", "a < b <tool", True),
        ("hermes", hermes(MOVE), True),
        ("hermes", f"I go.\n{hermes(MOVE, STOP)}", True),
        ("hermes", hermes({**MOVE, "arguments": {"metres": "far"}}), False),
        ("hermes", hermes({"name": "fly", "arguments": {}}), False),
        ("hermes", "<tool_call>oops", False),
        ("llama", "Hello {", True),
        ("llama", json.dumps(LLAMA_MOVE), True),
        ("llama", json.dumps({**LLAMA_MOVE, "parameters": {}}), False),
    ],
)
def test_calls_of_strict_tools_fit_their_schema_and_text_is_free(
    family: Family, text: str, allowed: bool
) -> None:
    guide = tools_guide(family, request(tools=STRICT))
    assert guide is not None and matches(guide, text) == allowed


@pytest.mark.parametrize(
    ("choice", "text", "allowed"),
    [
        ("auto", "Hello.", True),
        ("auto", hermes(MOVE), True),
        ("auto", hermes(MOVE, STOP), False),
        ("required", hermes(STOP), True),
        ("required", hermes(STOP, MOVE), False),
    ],
)
def test_without_parallel_calls_there_is_one(choice: str, text: str, allowed: bool) -> None:
    guide = tools_guide("hermes", request(tool_choice=choice, parallel_tool_calls=False))
    assert guide is not None and matches(guide, text) == allowed


def test_what_the_guide_allows_is_parsed_as_a_call() -> None:
    parser = ToolCallParser("hermes")
    parser.push(hermes(MOVE, STOP))
    assert [(call.name, json.loads(call.arguments)) for call in parser.calls] == [
        ("move", {"metres": 2}),
        ("stop", {}),
    ]


@pytest.mark.parametrize("choice", [None, "none", "auto"])
def test_an_answer_that_may_do_without_tools_has_no_guide(choice: Any) -> None:
    assert not called_tools(request(tool_choice=choice))


def test_a_choice_of_a_tool_that_there_is_not_is_refused() -> None:
    with pytest.raises(ApiError, match="no tool 'fly'"):
        called_tools(request(tool_choice={"type": "function", "function": {"name": "fly"}}))
    with pytest.raises(ApiError, match="give tools"):
        called_tools(request(tool_choice="required", tools=None))
