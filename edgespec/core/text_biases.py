"""What is added to the logits of a session's next token: its logit bias, penalties, bad words and end tokens held back.

A row decides the token behind the committed text and the draft nodes on its path, so each row has its own text. The
target's rows and the draft's are biased by the same rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import Biases

BANNED = float(np.finfo(np.float32).min)
"""Added to the logit of a token that may not come."""


class TextBiases:
    """end_tokens: those that `min_tokens` holds back."""

    def __init__(self, params: SamplingParams, end_tokens: Collection[int]) -> None:
        self._params = params
        self._end_tokens = sorted(end_tokens)
        self._counted = bool(params.presence_penalty or params.frequency_penalty)
        self._bad_tokens = {words[0]: BANNED for words in params.bad_words_ids if len(words) == 1}
        self._bad_words: dict[int, list[tuple[list[int], int]]] = defaultdict(list)
        """Of several tokens: those before the last one and the last one, by the last but one."""
        for *first, last in params.bad_words_ids:
            if first:
                self._bad_words[first[-1]].append((first, last))
        self._held_back_tokens = params.min_tokens if self._end_tokens else 0
        self._always = self._counted or bool(params.bad_words_ids)

    @property
    def depend_on_text(self) -> bool:
        """Rows differ by the text behind which they decide."""
        return self._always or self._held_back_tokens > 0

    @property
    def none(self) -> bool:
        """There is nothing to add, whatever the text."""
        return not (self._params.logit_bias or self.depend_on_text)

    def differ(self, generated: Sequence[int]) -> bool:
        """Whether rows behind this turn's text have more than the session's own logit bias."""
        return self._always or len(generated) < self._held_back_tokens

    def of_rows(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> list[Biases]:
        """For rows behind this turn's text and the tokens of each path."""
        presence, frequency = self._params.presence_penalty, self._params.frequency_penalty
        counts = Counter(generated) if self._counted else Counter()
        rows = []
        for path in paths:
            values = dict(self._params.logit_bias)
            for token, count in (counts + Counter(path) if self._counted else counts).items():
                values[token] = values.get(token, 0.0) - presence - frequency * count
            if len(generated) + len(path) < self._held_back_tokens:
                values |= dict.fromkeys(self._end_tokens, BANNED)
            values |= self._bad_tokens
            values |= dict.fromkeys(self._ends_of_bad_words(generated, path), BANNED)
            rows.append(
                (np.array(list(values), dtype=np.int32), np.array(list(values.values()), dtype=np.float32))
            )
        return rows

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
