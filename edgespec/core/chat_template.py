"""Chat templates: messages -> the prompt text, by the model's own jinja template, as transformers renders it.

A template comes with a model from anywhere, so it runs in jinja2's immutable sandbox (template_sandbox.py), sees plain
data only, and has bounds on its time and output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.core.errors import EdgespecError, first_line

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
    from edgespec.core.template_sandbox import environment, rendered

    if len(template) > MOST_TEMPLATE:
        raise EdgespecError(
            f"the chat template has {len(template)} characters, and may have {MOST_TEMPLATE}."
        )
    plain = json.loads(json.dumps({**variables, "messages": list(messages)}))
    values = {"tools": None, "documents": None, **special_tokens, **plain}
    try:
        compiled = environment().from_string(template)
        return rendered(compiled, {**values, "add_generation_prompt": add_generation_prompt})
    except Exception as error:  # whatever a template does, the caller gets a sentence
        raise EdgespecError(
            f"the chat template refuses these messages ({first_line(error)}): change them or the template."
        ) from None
