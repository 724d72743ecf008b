"""Tool calls in a model's text, as two families of models write them. Pure.

Hermes (also Qwen): `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, any number of them, with text around.
Llama 3: the whole answer is `{"name": ..., "parameters": {...}}`, or several of these with `;` between.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Literal

Family = Literal["hermes", "llama"]
BEGIN, END = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class ToolCall:
    """arguments: a JSON object, as text."""

    name: str
    arguments: str
    id: str


def family_of(chat_template: str) -> Family | None:
    """How the model of this template writes its calls; None: the template knows no tools."""
    if "tools" not in chat_template:
        return None
    return "hermes" if BEGIN in chat_template else "llama"


class ToolCallParser:
    """Splits streamed text into content and calls. A call comes whole, once it is complete; what looks like one and is
    none stays content."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._held = ""
        self._plain = self._behind_call = False
        self.calls: list[ToolCall] = []

    def push(self, text: str) -> tuple[str, list[ToolCall]]:
        """The content and the calls that became certain with this text."""
        self._held += text
        return self._push_hermes() if self.family == "hermes" else self._push_llama()

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The text ends here."""
        held, self._held = self._held, ""
        calls = _llama_calls(held) if self.family == "llama" and not self._plain else []
        self.calls += calls
        return ("" if calls else held), calls

    def _push_hermes(self) -> tuple[str, list[ToolCall]]:
        content, calls = "", list[ToolCall]()
        self._drop_newlines()
        while (start := self._held.find(BEGIN)) >= 0:
            content, self._held = content + self._held[:start], self._held[start:]
            end = self._held.find(END)
            if end < 0:
                return content, calls
            call = _call(self._held[len(BEGIN) : end], "arguments")
            if call is None:
                content += self._held[: end + len(END)]
            else:
                calls.append(call)
                self.calls.append(call)
                self._behind_call = True
            self._held = self._held[end + len(END) :]
            self._drop_newlines()
        keep = next((size for size in range(len(BEGIN) - 1, 0, -1) if self._held.endswith(BEGIN[:size])), 0)
        cut = len(self._held) - keep
        content, self._held = content + self._held[:cut], self._held[cut:]
        return content, calls

    def _drop_newlines(self) -> None:
        """Those between two calls are no content."""
        if self._behind_call:
            self._held = self._held.lstrip("\n")
            self._behind_call = not self._held

    def _push_llama(self) -> tuple[str, list[ToolCall]]:
        """Whether it is a call shows at its first character, what it says at its end."""
        begun = self._held.lstrip()
        self._plain = self._plain or (bool(begun) and not begun.startswith("{"))
        if not begun or not self._plain:
            return "", []
        content, self._held = self._held, ""
        return content, []


def _llama_calls(text: str) -> list[ToolCall]:
    calls = [_call(part, "parameters") for part in text.split(";\n" if ";\n" in text else "; ")]
    return [call for call in calls if call is not None] if all(calls) else []


def _call(text: str, arguments: str) -> ToolCall | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    given = found.get(arguments, {})
    if not isinstance(given, dict):
        return None
    return ToolCall(found["name"], json.dumps(given, ensure_ascii=False), f"call_{secrets.token_hex(12)}")
