"""What a session's sampling parameters make of each row of a forward, where that depends on the text so far.

A row decides the token behind the committed text and the draft nodes on its path. So each row has its own text, and its
own constraints: penalties, tokens that may not come yet, and the tokens that the guide allows. Plain decoding has the
same, which is why trees and plain decoding give the same text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespec.core.guide_matcher import Matcher
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.core.text_biases import TextBiases


class Constraints:
    """A session's. end_tokens: those that `min_tokens` holds back. matcher: of its guide, from when it is compiled."""

    def __init__(
        self, params: SamplingParams, end_tokens: Collection[int], matcher: Matcher | None = None
    ) -> None:
        self._biases = TextBiases(params, end_tokens)
        self._repetition = params.repetition_penalty != 1
        self.matcher = matcher

    @property
    def depend_on_text(self) -> bool:
        """Rows differ by the text behind which they decide; otherwise nobody needs to look at their paths."""
        return self._biases.depend_on_text or self.matcher is not None or self._repetition

    def of_rows(
        self, text: Sequence[int], turn_start: int, paths: Sequence[Sequence[int]]
    ) -> RowConstraints | None:
        """For rows behind `text` and the tokens of each path; this turn's text begins at `turn_start`. None: nothing
        depends on the text."""
        generated = text[turn_start:]
        seen = _seen(text, paths) if self._repetition else None
        allowed = None if self.matcher is None else self.matcher.masks(generated, paths)
        biases = self._biases.of_rows(generated, paths) if self._biases.differ(generated) else None
        if seen is None and biases is None and allowed is None:
            return None
        return RowConstraints(seen, biases, allowed)


def _seen(text: Sequence[int], paths: Sequence[Sequence[int]]) -> list[NDArray[np.int32]]:
    """The distinct tokens behind which each row decides, for the repetition penalty."""
    tokens = set(text)
    seen = np.array(sorted(tokens), dtype=np.int32)
    return [
        np.union1d(seen, np.array(list(new), dtype=np.int32)) if (new := set(path) - tokens) else seen
        for path in paths
    ]
