"""What a request says about its text's form becomes the guide that it asks for."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pydantic")

from edgespec.api.errors import ApiError
from edgespec.api.guides import guide_of
from edgespec.api.schema import SamplingRequest
from edgespec.core.guide import Guide

SCHEMA = {"type": "object", "properties": {"speed": {"type": "number"}}}
ANY_OBJECT = Guide.json_schema({"type": "object"})


@pytest.mark.parametrize(
    ("given", "guide"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ANY_OBJECT),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "speed", "schema": SCHEMA}}},
            Guide.json_schema(SCHEMA),
        ),
        ({"guided_json": SCHEMA}, Guide.json_schema(SCHEMA)),
        ({"guided_regex": "[0-9]+"}, Guide.regex("[0-9]+")),
        ({"guided_choice": ["left", 'a "b"']}, Guide.lark('start: "left" | "a \\"b\\""')),
        ({"guided_grammar": 'start: "a"'}, Guide.lark('start: "a"')),
        ({"structured_outputs": {"regex": "a", "json": None}}, Guide.regex("a")),
        ({"structured_outputs": {"json_object": True}}, ANY_OBJECT),
    ],
)
def test_a_guide_is_read_from_openais_and_from_vllms_parameters(
    given: dict[str, Any], guide: Guide | None
) -> None:
    assert guide_of(SamplingRequest(**given)) == guide


def test_two_guides_contradict_each_other() -> None:
    with pytest.raises(ApiError, match="guided_regex: this contradicts guided_json"):
        guide_of(SamplingRequest(guided_json=SCHEMA, guided_regex="a"))
