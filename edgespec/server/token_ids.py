"""Token ids that came over the wire: only those that the target has are let in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.server.refusal import Refused

Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]


def are_tokens(tokens: Tokens, vocabulary_size: int) -> bool:
    array = np.asarray(tokens)
    return not len(array) or 0 <= int(array.min()) <= int(array.max()) < vocabulary_size


def check_tokens(tokens: Tokens, vocabulary_size: int) -> None:
    """Raises Refused for an id that the target does not have."""
    if not are_tokens(tokens, vocabulary_size):
        raise Refused(_native.ErrorCode.PARAMETER, f"token ids must lie in 0 to {vocabulary_size - 1}")
