"""Which texts are remembered, and how: a device keeps its own, a server those that a tenant's devices share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edgespec import _native

SHORTEST_MATCH = 2
"""Tokens; what follows a single one elsewhere tells too little."""

PROMPT_TOKENS = 8
"""Of a prompt's end that are kept with its text, so that the first generated tokens are found again."""


def text_index(most_tokens: int) -> _native.TextIndex:
    return _native.TextIndex(most_tokens, SHORTEST_MATCH)


def tokens_in(most_bytes: int) -> int:
    """Tokens of an index that takes no more memory: a power of two, as the index needs it, and 1,024 at least."""
    tokens = 1024
    while 2 * tokens * _native.TextIndex.bytes_per_token(SHORTEST_MATCH) <= most_bytes:
        tokens *= 2
    return tokens


def remembered_part(text: Sequence[int], turn_start: int, end: int | None = None) -> Sequence[int]:
    """Of a text whose last turn's tokens begin at `turn_start` and count up to `end`: none where the turn has none."""
    end = len(text) if end is None else end
    return text[max(0, turn_start - PROMPT_TOKENS) : end] if turn_start < end else ()
