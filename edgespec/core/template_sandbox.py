"""The sandbox of chat templates: jinja2's immutable one, with the filters and functions that transformers gives its
templates, and bounds.

Each line of a template that runs is counted, and each text or list that an operator, a block or a filter makes is
measured: a template that loops or grows without end is stopped.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import FrameType
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_MADE = 64 << 20
"""Characters and list entries that one rendering makes, all that is thrown away again included."""

MOST_NUMBER = 1 << 20
"""As the argument of a filter or function: whatever takes a number may make a text of that length."""

MOST_BITS = 1024
"""Of a whole number that goes into an operator."""

MOST_LINES = 2_000_000
MOST_SECONDS = 5.0

WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*(\d{6}|\*)|\{[^}]*\d{6}")
"""A format such as %999999999d makes a long text of a short one."""


class TemplateLimit(jinja2.TemplateError):
    """A template went beyond what it may."""


def environment() -> Sandbox:
    """For one rendering."""
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    sandbox.filters["tojson"] = _tojson
    for name, function in list(sandbox.filters.items()):
        sandbox.filters[name] = sandbox.measured(name, function)
    sandbox.filters[_JOINED] = sandbox.concat
    del sandbox.globals["lipsum"]
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


def rendered(template: jinja2.Template, values: Mapping[str, Any]) -> str:
    """Raises TemplateLimit, and what the template raises."""
    budget = _Lines(template.filename or "<template>")
    before = sys.gettrace()
    sys.settrace(budget.called)
    try:
        return template.environment.concat(template.generate(values))
    finally:
        sys.settrace(before)


_JOINED = "joined by ~"


class Sandbox(ImmutableSandboxedEnvironment):
    """Counts what it makes."""

    intercepted_binops = frozenset(("*", "+", "**", "%"))
    _made = 0

    def concat(self, parts: Iterable[object]) -> str:
        """What a block or the operator ~ puts together."""
        pieces = []
        for part in parts:
            pieces.append(str(part))
            self._count(len(pieces[-1]))
        return "".join(pieces)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            self._count(_size(left) * right if isinstance(right, int) else 0)
            self._count(_size(right) * left if isinstance(left, int) else 0)
        elif operator == "+":
            self._count(_size(left) + _size(right))
        elif operator == "**" and not (isinstance(right, (int, float)) and abs(right) <= 64):
            raise TemplateLimit("an exponent is above 64")
        if isinstance(left, int) and left.bit_length() > MOST_BITS:
            raise TemplateLimit(f"a number has more than {MOST_BITS} bits")
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        _check_numbers([*arguments, *named.values()])
        subject = getattr(function, "__self__", None)
        if isinstance(subject, str):
            _check_format(subject if getattr(function, "__name__", "").startswith("format") else "")
        result = super().call(context, function, *arguments, **named)
        self._count(_size(result))
        return result

    def measured(self, name: str, function: Any) -> Any:
        """The filter `name`, whose arguments and result are looked at."""

        def filtered(*arguments: Any, **named: Any) -> Any:
            _check_numbers([*arguments[1:], *named.values()])
            if name == "format":
                _check_format(str(arguments[0]))
            result = function(*arguments, **named)
            self._count(_size(result))
            return result

        filtered.__dict__.update(
            getattr(function, "__dict__", {})
        )  # whether it wants the environment or the context first
        return filtered

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Joins().visit(tree)  # type: ignore[no-any-return]

    def _count(self, size: int) -> None:
        self._made += size
        if self._made > MOST_MADE:
            raise TemplateLimit(f"it makes more than {MOST_MADE} characters")


class _Joins(NodeTransformer):
    """Makes a filter of each ~, so that its result is counted."""

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        self.generic_visit(node)
        parts = jinja2.nodes.List(node.nodes, lineno=node.lineno)
        return jinja2.nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here its body is text like any other."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Lines:
    """Counts the lines of a template that run: as a trace function it sees each of them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._count = 0
        self._until_s = time.monotonic() + MOST_SECONDS

    def called(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._ran if frame.f_code.co_filename == self._file else None

    def _ran(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._count += 1
        if self._count > MOST_LINES or (self._count % 16 == 0 and time.monotonic() > self._until_s):
            raise TemplateLimit("it runs for too long")
        return self._ran


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _check_numbers(arguments: list[Any]) -> None:
    if any(isinstance(argument, int) and abs(argument) > MOST_NUMBER for argument in arguments):
        raise TemplateLimit(f"a filter or function is given a number above {MOST_NUMBER}")


def _check_format(text: str) -> None:
    if WIDE_FORMAT.search(text):
        raise TemplateLimit("a format makes a text that is too long")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict)) else 0
