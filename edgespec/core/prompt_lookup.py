"""Prompt lookup: what followed the last time the text's last tokens occurred in it. The server's own cheap draft.

A forward that would otherwise fill with one token verifies a few guesses beside it. After Saxena, "Prompt Lookup
Decoding" (2023). Pure.
"""

from __future__ import annotations

from edgespec import _native
from edgespec.core.lookup import LookupRates, look_up

WINDOW = 8192
"""Tokens of the text's end that are searched."""

JUDGED = 512
"""Tokens of a long text's end that are judged; what comes before is only read."""

LEAST_PROBABILITY = 0.1
"""Of a guessed token to be reached."""


class PromptLookup:
    """Guesses continuations of one session's text, `most` tokens at most."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._rates = LookupRates()
        self._index = _native.TextIndex(WINDOW)
        self._read = 0

    def __len__(self) -> int:
        """Tokens held."""
        return len(self._index)

    def forget(self) -> None:
        """The next text read is another one; how often guesses were right is kept."""
        self._index.clear()
        self._read = 0

    def read(self, text: list[int]) -> None:
        """The text grew to this: the new tokens are read, and what would have been guessed of them is judged."""
        start = max(self._read, len(text) - JUDGED)
        if start > self._read:
            self._index.add(text[max(self._read, len(text) - WINDOW) : start])
        judged = text[max(0, start - _native.TextIndex.LONGEST_MATCH) : start]
        for token in text[start:]:
            guess = look_up(self._index, judged, [])
            if guess is not None:
                self._rates.observe(guess, token)
            judged.append(token)
            self._index.add([token])
        self._read = len(text)

    def guess(self, text: list[int]) -> list[tuple[int, float]]:
        """The likeliest next tokens behind `text`, each with its probability given the one before; empty: nothing to go
        by."""
        guesses: list[tuple[int, float]] = []
        tokens: list[int] = []
        path_probability = 1.0
        while len(guesses) < self._most and (found := look_up(self._index, text, tokens)) is not None:
            token, probability = self._rates.probabilities(found)[0]
            path_probability *= probability
            if path_probability < LEAST_PROBABILITY:
                break
            guesses.append((token, probability))
            tokens.append(token)
        return guesses
