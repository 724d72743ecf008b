"""A draft held to its session's guide: what the guide forbids is not drafted, and what it leaves no choice about is
drafted without running the draft.

The target is held to the guide by the server; this only saves drafts that could not be right.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgespec.core.guide_limits import GuideFailed
from edgespec.core.guide_matcher import Matcher, allowed_tokens


class DraftGuide:
    """matcher: of the target's vocabulary, which has `vocabulary_size` tokens."""

    def __init__(self, matcher: Matcher, vocabulary_size: int) -> None:
        self._matcher: Matcher | None = matcher
        self._vocabulary_size = vocabulary_size

    def allowed(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """bool [paths, V]: which tokens may follow this turn's text and each path; all, once the guide has failed."""
        if self._matcher is not None:
            try:
                return allowed_tokens(self._matcher.masks(generated, paths), self._vocabulary_size)
            except GuideFailed:
                self._matcher = None
        return np.ones((len(paths), self._vocabulary_size), dtype=np.bool_)


def forced_token(allowed: NDArray[np.bool_]) -> int | None:
    """The only token of bool [V] that may follow; None where there is a choice."""
    tokens = np.flatnonzero(allowed)
    return int(tokens[0]) if len(tokens) == 1 else None
