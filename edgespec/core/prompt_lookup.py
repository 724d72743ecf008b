"""Prompt lookup: what followed the last time the text's last tokens occurred in it. The server's own cheap draft.

A forward that would otherwise fill with one token verifies a few guesses beside it. How often they are right is learnt
from the text itself, by length of the match. After Saxena, "Prompt Lookup Decoding" (2023). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

MATCHES = (6, 4, 3, 2, 1)
"""Lengths of a match, the longest first."""

WINDOW = 8192
"""Tokens of the text's end that are searched."""


class PromptLookup:
    """Guesses continuations of one session's text."""

    _LEAST_PROBABILITY = 0.1
    _DECAY = 0.98

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._start = 0
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._offered = dict.fromkeys(MATCHES, 4.0)
        self._right = {6: 3.2, 4: 2.8, 3: 2.0, 2: 1.2, 1: 0.9}

    def probability(self, match: int) -> float:
        """How often the token behind a match of this length was right, lately."""
        return self._right[match] / self._offered[match]

    def forget(self) -> None:
        """The next text read is another one; how often guesses were right is kept."""
        self._start = 0
        self._text.clear()
        self._after.clear()

    def read(self, text: Sequence[int]) -> None:
        """The text grew to this: the new tokens are read, and what would have been guessed of them is judged."""
        if len(text) - self._start > 2 * WINDOW:
            self.forget()
            self._start = len(text) - WINDOW
        for token in text[self._start + len(self._text) :]:
            self._judge(token)
            self._text.append(token)
            end = len(self._text)
            for match in MATCHES:
                if end > match:
                    self._after[tuple(self._text[end - match - 1 : end - 1])] = end - 1

    def guess(self) -> list[tuple[int, float]]:
        """The likeliest next tokens, each with its probability given the one before; empty: nothing to go by."""
        found = self._find()
        if found is None:
            return []
        match, at = found
        guesses, path_probability = [], 1.0
        for token in self._text[at : at + self._most]:
            probability = self.probability(match)
            path_probability *= probability
            if path_probability < self._LEAST_PROBABILITY:
                break
            guesses.append((token, probability))
            match = max(length for length in MATCHES if length <= match + 1)
        return guesses

    def _find(self) -> tuple[int, int] | None:
        """The longest match of the text's end: its length, and where what followed it lies."""
        end = len(self._text)
        for match in MATCHES:
            if end > match and (at := self._after.get(tuple(self._text[end - match :]))) is not None:
                return match, at
        return None

    def _judge(self, token: int) -> None:
        found = self._find()
        if found is not None:
            match, at = found
            self._offered[match] = self._offered[match] * self._DECAY + 1
            self._right[match] = self._right[match] * self._DECAY + (self._text[at] == token)
