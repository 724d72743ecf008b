"""A prompt's text as tokens. What cannot fit the context is refused before it is encoded, which takes long."""

from __future__ import annotations

from edgespec.api.door import Door
from edgespec.api.errors import ApiError
from edgespec.core.errors import EdgespecError


def encoded(door: Door, text: str, param: str, add_special_tokens: bool = True) -> list[int]:
    """param: what holds the text in the client's request. Raises ApiError."""
    check_length(door, len(text), param)
    try:
        return door.source.tokenizer.encode(text, add_special_tokens)
    except EdgespecError as error:
        raise ApiError(400, f"{param}: {error}", param=param) from None


def check_length(door: Door, characters: int, param: str) -> None:
    """Raises ApiError for a text that is too long even if all of its tokens are the longest there is. The context is
    known once a session was opened."""
    context = door.store.context_length
    if context is not None and characters > context * door.longest_token:
        raise ApiError(
            400,
            f"{param}: its text has {characters} characters, and {context} tokens of context hold "
            f"{context * door.longest_token} at most: shorten it.",
            param=param,
            code="context_length_exceeded",
        )
