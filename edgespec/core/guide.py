"""What a text must look like: a JSON schema, a regular expression, or a grammar in Lark's notation.

The server holds the target to it, with llguidance. The text is what plain decoding gives under the same guide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgespec.core.errors import EdgespecError, shown

Kind = Literal["json_schema", "regex", "lark"]

MAX_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Guide:
    """A grammar for the whole text of a turn. text: the schema as JSON, the expression, or the grammar.

    Raises EdgespecError for a kind that does not exist, for no text, and for a schema that is not JSON. Whether the
    grammar itself can be used is known when the session opens.
    """

    kind: Kind
    text: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise EdgespecError(f"a guide is of kind {', '.join(get_args(Kind))}, not {shown(self.kind)}.")
        if not isinstance(self.text, str) or not 0 < len(self.text) <= MAX_CHARACTERS:
            raise EdgespecError(f"a guide's text has 1 to {MAX_CHARACTERS} characters.")
        if self.kind == "json_schema":
            try:
                schema = json.loads(self.text)
            except (ValueError, RecursionError) as error:
                raise EdgespecError(f"the JSON schema is not JSON: {error}.") from None
            if not isinstance(schema, (dict, bool)):
                raise EdgespecError('a JSON schema is an object, such as {"type": "object"}.')

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str) -> Guide:
        """A text that is a JSON value of this schema."""
        return cls("json_schema", schema if isinstance(schema, str) else json.dumps(schema))

    @classmethod
    def regex(cls, expression: str) -> Guide:
        """A text that matches the expression from its beginning to its end."""
        return cls("regex", expression)

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Guide:
        """A text that is one of these."""
        return cls("lark", "start: " + " | ".join(json.dumps(one) for one in choices))

    @classmethod
    def lark(cls, grammar: str) -> Guide:
        """A text that the grammar's rule `start` makes."""
        return cls("lark", grammar)
