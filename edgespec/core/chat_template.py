"""Chat templates: messages -> the prompt text, by the model's own jinja template, as transformers renders it.

A template comes with a model from anywhere, so it runs in jinja2's immutable sandbox and sees plain data only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgespec.core.errors import EdgespecError

if TYPE_CHECKING:
    import jinja2


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    special_tokens: Mapping[str, str],
    variables: Mapping[str, Any],
) -> str:
    """The text of `messages` ({"role", "content"}) under `template`. Raises EdgespecError where it cannot be rendered.

    special_tokens: name (bos_token, eos_token, ...) -> text, which templates refer to. variables: others that the
    template knows, such as tools or enable_thinking. messages, variables: values as JSON has them.
    """
    import jinja2

    plain = json.loads(json.dumps({**variables, "messages": list(messages)}))
    try:
        return (
            _environment()
            .from_string(template)
            .render(
                {"tools": None, "documents": None, **special_tokens, **plain},
                add_generation_prompt=add_generation_prompt,
            )
        )
    except jinja2.TemplateError as error:
        raise EdgespecError(
            f"the chat template refuses these messages ({error}): change them or the template."
        ) from None


def _environment() -> jinja2.Environment:
    """The sandbox, with the filters and functions that transformers gives its templates."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the assistant's words for training; here its body is text like any other."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
