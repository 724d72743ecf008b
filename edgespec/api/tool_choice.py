"""`tool_choice` and `strict` as a guide: an answer that must call a tool is calls alone; one that may
call a strict tool is text or calls. The arguments of calls fit the tool's schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.api.errors import refused
from edgespec.api.schema import ChatRequest, NamedTool, Tool
from edgespec.api.tool_calls import BEGIN, END, Family
from edgespec.core.guide import Guide

WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As models write calls: with a space behind commas and colons."""

ARGUMENTS: Mapping[Family, str] = {"hermes": "arguments", "llama": "parameters"}


def called_tools(request: ChatRequest) -> Sequence[Tool]:
    """The tools of which the answer must call one; none where it may do without. Raises ApiError."""
    choice = request.tool_choice
    if choice in (None, "none", "auto"):
        return ()
    if not request.tools:
        raise refused("tool_choice", "there are no tools to choose from: give tools.")
    if not isinstance(choice, NamedTool):
        return request.tools
    found = [tool for tool in request.tools if tool.function.name == choice.function.name]
    if not found:
        raise refused("tool_choice", f"there is no tool {choice.function.name!r} among tools.")
    return found


def tools_guide(family: Family | None, request: ChatRequest) -> Guide | None:
    """What the answer may be; None: anything. family: None: the answer calls no tools. Raises ApiError."""
    called = called_tools(request)
    if family is None:
        return None
    several = request.parallel_tool_calls is not False
    if called:
        return call_guide(family, called, several and request.tool_choice == "required")
    tools = request.tools or ()
    if several and not any(tool.function.strict for tool in tools):
        return None
    return text_or_call_guide(family, tools, several)


def call_guide(family: Family, tools: Sequence[Tool], several: bool) -> Guide:
    """A call of one of the tools, as the model's family writes it. several: more calls may follow."""
    more = ' ("\\n" call)*' if family == "hermes" and several else ""
    begin, end = (json.dumps(f"{BEGIN}\n"), json.dumps(f"\n{END}")) if family == "hermes" else ('""', '""')
    return Guide.lark(f"start: call{more}\ncall: {begin} object {end}\n{_object(family, tools)}")


def text_or_call_guide(family: Family, tools: Sequence[Tool], several: bool) -> Guide:
    """Any text, and a call of one of the tools. What begins as a call must be one. several: more calls may follow."""
    if family == "llama":
        grammar = "start: (object | TEXT)?\nTEXT: /[ \\n]*[^ \\n{](?s:.*)/\n"
    else:
        begin, end, between = (json.dumps(one) for one in (f"{BEGIN}\n", f"\n{END}", f"\n{END}\n{BEGIN}\n"))
        more = f"({between} object)* " if several else ""
        grammar = (
            f"start: TEXT | before object {more}{end}\n"
            f"before[suffix={begin}]: /(?s:.*)/\n"
            f"TEXT: /(?s:.*)/ & ~/(?s:.*){BEGIN}(?s:.*)/\n"
        )
    return Guide.lark(grammar + _object(family, tools))


def _object(family: Family, tools: Sequence[Tool]) -> str:
    """The grammar's rule for a call of one of the tools."""
    calls = [_call_schema(tool, ARGUMENTS[family]) for tool in tools]
    schema = {"x-guidance": WRITTEN, **(calls[0] if len(calls) == 1 else {"anyOf": calls})}
    return f"object: %json {json.dumps(schema)}\n"


def _call_schema(tool: Tool, arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            arguments: tool.function.parameters or {"type": "object"},
        },
        "required": ["name", arguments],
        "additionalProperties": False,
    }
