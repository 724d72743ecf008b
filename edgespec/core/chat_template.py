"""Chat templates: messages -> the prompt text, by the model's own jinja template, as transformers renders it.

A template comes with a model from anywhere, so it runs in jinja2's immutable sandbox, sees plain data only, and has a
process of its own with bounds on its memory, time and output (template_process.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.template_process import TemplateRefusal, process_of

MOST_TEMPLATE = 1 << 20
"""Characters."""


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
    if len(template) > MOST_TEMPLATE:
        raise EdgespecError(
            f"the chat template has {len(template)} characters, and may have {MOST_TEMPLATE}."
        )
    values = {
        "tools": None,
        "documents": None,
        **special_tokens,
        **variables,
        "messages": list(messages),
        "add_generation_prompt": add_generation_prompt,
    }
    try:
        return process_of(template).render(values)
    except TemplateRefusal as refusal:
        raise EdgespecError(
            f"the chat template refuses these messages ({first_line(refusal)}): change them or the template."
        ) from None
