"""What a session's sampling parameters make of each row of a forward, where that depends on the text so far.

A row decides the token behind the committed text and the draft nodes on its path. So each row has its own text, and its
own constraints: penalties, tokens that may not come yet, and the tokens that the guide allows. Plain decoding has the
same, which is why trees and plain decoding give the same text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespec.core.guide_matcher import Matcher
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints

BANNED = float(np.finfo(np.float32).min)
"""Added to the logit of a token that may not come."""


class Constraints:
    """A session's. end_tokens: those that `min_tokens` holds back. matcher: of its guide."""

    def __init__(
        self, params: SamplingParams, end_tokens: Collection[int], matcher: Matcher | None = None
    ) -> None:
        self._params = params
        self._end_tokens = sorted(end_tokens)
        self._matcher = matcher
        self._counted = bool(params.presence_penalty or params.frequency_penalty)
        self._bad_tokens = {words[0]: BANNED for words in params.bad_words_ids if len(words) == 1}
        self._bad_words: dict[int, list[tuple[list[int], int]]] = defaultdict(list)
        """Of several tokens: those before the last one and the last one, by the last but one."""
        for *first, last in params.bad_words_ids:
            if first:
                self._bad_words[first[-1]].append((first, last))

    @property
    def depend_on_text(self) -> bool:
        """Rows differ by the text behind which they decide; otherwise nobody needs to look at their paths."""
        params = self._params
        return (
            self._counted
            or self._matcher is not None
            or params.repetition_penalty != 1
            or bool(params.bad_words_ids)
            or bool(self._end_tokens and params.min_tokens)
        )

    def of_rows(
        self, text: Sequence[int], turn_start: int, paths: Sequence[Sequence[int]]
    ) -> RowConstraints | None:
        """For rows behind `text` and the tokens of each path; this turn's text begins at `turn_start`. None: nothing
        depends on the text."""
        generated = text[turn_start:]
        seen = self._seen(text, paths) if self._params.repetition_penalty != 1 else None
        allowed = None if self._matcher is None else self._matcher.masks(generated, paths)
        held_back = self._end_tokens and len(generated) < self._params.min_tokens
        listed = self._counted or held_back or self._params.bad_words_ids
        biases = self._biases(generated, paths) if listed else None
        if seen is None and biases is None and allowed is None:
            return None
        return RowConstraints(seen, biases, allowed)

    def _ends_of_bad_words(self, generated: Sequence[int], path: Sequence[int]) -> list[int]:
        """The tokens that would finish a bad word of several behind this turn's text and the path."""
        ends: list[int] = []
        behind = path or generated
        if not len(behind):
            return ends
        for first, last in self._bad_words.get(behind[-1], ()):
            before = len(first) - len(path)
            tail = [*(generated[-before:] if before > 0 else ()), *path][-len(first) :]
            if tail == first:
                ends.append(last)
        return ends

    @staticmethod
    def _seen(text: Sequence[int], paths: Sequence[Sequence[int]]) -> list[NDArray[np.int32]]:
        tokens = set(text)
        seen = np.array(sorted(tokens), dtype=np.int32)
        return [
            np.union1d(seen, np.array(list(new), dtype=np.int32)) if (new := set(path) - tokens) else seen
            for path in paths
        ]

    def _biases(
        self, generated: Sequence[int], paths: Sequence[Sequence[int]]
    ) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Penalties and held-back tokens, together with the session's own logit bias."""
        presence, frequency = self._params.presence_penalty, self._params.frequency_penalty
        counts = Counter(generated) if self._counted else Counter()
        rows = []
        for path in paths:
            values = dict(self._params.logit_bias)
            for token, count in (counts + Counter(path) if self._counted else counts).items():
                values[token] = values.get(token, 0.0) - presence - frequency * count
            if len(generated) + len(path) < self._params.min_tokens:
                values |= dict.fromkeys(self._end_tokens, BANNED)
            values |= self._bad_tokens
            values |= dict.fromkeys(self._ends_of_bad_words(generated, path), BANNED)
            rows.append(
                (np.array(list(values), dtype=np.int32), np.array(list(values.values()), dtype=np.float32))
            )
        return rows
