"""The sampling parameters that have no field in an OPEN, as its section: a JSON object, a member for each.

A new parameter is a field of `SamplingParams` and a line here. A server refuses a parameter that it does not know by
its name. `generated` is how many of the prompt's last tokens are this turn's own text: a session that opens anew, at
another server, goes on where it was.
"""

from __future__ import annotations

import json
from typing import Any

from edgespec.core.errors import shown
from edgespec.core.guide import Guide
from edgespec.core.params import MOST_BAD_TOKENS, MOST_STOP_TOKENS, ParameterError, SamplingParams

MAX_BYTES = 1 << 18
GENERATED = "generated"

NAMES = (
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "stop_token_ids",
    "bad_words_ids",
    "guide",
    "top_logprobs",
)

MOST_MEMBERS = {"stop_token_ids": MOST_STOP_TOKENS, "bad_words_ids": MOST_BAD_TOKENS}


def encode(params: SamplingParams, generated: int) -> bytes:
    """The section; empty where every parameter is at its default."""
    members: dict[str, Any] = {
        name: value
        for name in NAMES
        if (value := getattr(params, name)) != SamplingParams.__dataclass_fields__[name].default
    }
    if not members:
        return b""
    if params.guide is not None:
        members["guide"] = {params.guide.kind: params.guide.text}
    return json.dumps({**members, GENERATED: generated}, separators=(",", ":")).encode()


def decode(section: bytes) -> tuple[dict[str, Any], int]:
    """Keyword arguments for `SamplingParams`, and `generated`. Raises ParameterError."""
    if not section:
        return {}, 0
    if len(section) > MAX_BYTES:
        raise ParameterError(f"the sampling parameters take {len(section)} bytes, and {MAX_BYTES} at most.")
    try:
        members = json.loads(section)
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"the sampling parameters are not JSON: {error}.") from None
    if not isinstance(members, dict):
        raise ParameterError("the sampling parameters are not a JSON object.")
    generated = members.pop(GENERATED, 0)
    if not isinstance(generated, int) or generated < 0:
        raise ParameterError(f"{GENERATED} must be a whole number from 0, not {shown(generated)}.")
    if unknown := sorted(members.keys() - set(NAMES)):
        raise ParameterError(f"this server does not know the sampling parameter {shown(unknown[0])}.")
    for name, most in MOST_MEMBERS.items():
        if name in members and not isinstance(members[name], list):
            raise ParameterError(f"{name} must be a list, not {shown(members[name])}.")
        if len(members.get(name, ())) > most:
            raise ParameterError(f"{name} has {len(members[name])} members, and {most} at most.")
    if not all(isinstance(one, list) for one in members.get("bad_words_ids", ())):
        raise ParameterError("bad_words_ids must be lists of token ids.")
    if "guide" in members:
        members["guide"] = _guide(members["guide"])
    return members, generated


def _guide(member: object) -> Guide:
    if not isinstance(member, dict) or len(member) != 1:
        raise ParameterError('guide must be an object of one member, such as {"regex": "..."}.')
    [(kind, text)] = member.items()
    return Guide(kind, text)
