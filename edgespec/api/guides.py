"""What a request says about its text's form, as a `Guide`: OpenAI's `response_format`, vLLM's `structured_outputs` and
`guided_*`. More than one of them is refused."""

from collections.abc import Callable
from typing import Any

from edgespec.api.errors import refused
from edgespec.api.schema import SamplingRequest
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide

Make = Callable[[Any], Guide | None]

GUIDED: dict[str, Make] = {
    "guided_json": Guide.json_schema,
    "guided_regex": Guide.regex,
    "guided_choice": Guide.choice,
    "guided_grammar": Guide.lark,
}
STRUCTURED: dict[str, Make] = {
    "json": Guide.json_schema,
    "regex": Guide.regex,
    "choice": Guide.choice,
    "grammar": Guide.lark,
}
ANY_OBJECT = {"type": "object"}


def guide_of(request: SamplingRequest) -> Guide | None:
    """Raises ApiError that names the parameter."""
    asked: list[tuple[str, Make, Any]] = [(name, GUIDED[name], getattr(request, name)) for name in GUIDED]
    if request.response_format is not None:
        asked.append(("response_format", _of_format, request.response_format))
    if request.structured_outputs is not None:
        asked.append(("structured_outputs", _structured, request.structured_outputs))
    given = [(name, make, value) for name, make, value in asked if value is not None]
    if len(given) > 1:
        raise refused(given[1][0], f"this contradicts {given[0][0]}: give one of them.")
    for name, make, value in given:
        try:
            return make(value)
        except (EdgespecError, TypeError, KeyError) as error:
            raise refused(name, f"it cannot be read ({error}).") from None
    return None


def _of_format(form: dict[str, Any]) -> Guide | None:
    kind = form.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return Guide.json_schema(ANY_OBJECT)
    if kind == "json_schema":
        return Guide.json_schema(form["json_schema"].get("schema", ANY_OBJECT))
    raise EdgespecError(f"there is no type {kind!r}: choose text, json_object or json_schema")


def _structured(options: dict[str, Any]) -> Guide | None:
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if given == {"json_object": True}:
        return Guide.json_schema(ANY_OBJECT)
    if len(given) != 1 or not given.keys() <= STRUCTURED.keys():
        raise EdgespecError(f"give one of {', '.join(STRUCTURED)}, json_object")
    [(name, value)] = given.items()
    return STRUCTURED[name](value)
