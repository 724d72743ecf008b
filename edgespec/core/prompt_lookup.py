"""Prompt lookup: what followed the last time the text's last tokens occurred in it. The server's own cheap draft.

A forward that would otherwise fill with one token verifies a few guesses beside it. After Saxena, "Prompt Lookup
Decoding" (2023). Texts that a tenant's devices share are looked up likewise. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgespec import _native
from edgespec.core.lookup import LookupRates, look_up

WINDOW = 8192
"""Tokens of the text's end that are searched."""

JUDGED = 512
"""Tokens of a long text's end that are judged; what comes before is only read."""

LEAST_PROBABILITY = 0.1
"""Of a guessed token to be reached."""


@dataclass
class _Known:
    """Texts that are looked up, and how often guesses from them were right."""

    index: _native.TextIndex
    rates: LookupRates = field(default_factory=LookupRates)


class PromptLookup:
    """Guesses continuations of one session's text, `most` tokens at most. shared: other texts that are looked up too,
    which others add to."""

    def __init__(self, most: int = 8, shared: _native.TextIndex | None = None) -> None:
        self._most = most
        self._own = _Known(_native.TextIndex(WINDOW))
        self._known = [self._own] if shared is None else [self._own, _Known(shared)]
        self._read = 0

    def __len__(self) -> int:
        """Tokens of the text held."""
        return len(self._own.index)

    def forget(self) -> None:
        """The next text read is another one; how often guesses were right is kept."""
        self._own.index.clear()
        self._read = 0

    def read(self, text: list[int]) -> None:
        """The text grew to this: the new tokens are read, and what would have been guessed of them is judged. A prompt,
        the first that is read, is judged by itself alone: prompts are not among the other texts."""
        start = max(self._read, len(text) - JUDGED)
        if start > self._read:
            self._own.index.add(text[max(self._read, len(text) - WINDOW) : start])
        judged = text[max(0, start - _native.TextIndex.LONGEST_MATCH) : start]
        judges = self._known if self._read else [self._own]
        for token in text[start:]:
            for known in judges:
                guess = look_up(known.index, judged, [])
                if guess is not None:
                    known.rates.observe(guess, token)
            judged.append(token)
            self._own.index.add([token])
        self._read = len(text)

    def guess(self, text: list[int]) -> list[tuple[int, float]]:
        """The likeliest next tokens behind `text`, each with its probability given the one before; empty: nothing to go
        by."""
        guesses: list[tuple[int, float]] = []
        tokens: list[int] = []
        path_probability = 1.0
        while len(guesses) < self._most:
            token, probability = self._likeliest(text, tokens)
            path_probability *= probability
            if path_probability < LEAST_PROBABILITY:
                break
            guesses.append((token, probability))
            tokens.append(token)
        return guesses

    def _likeliest(self, text: list[int], more: list[int]) -> tuple[int, float]:
        """The next token behind `text` and `more`, and its probability: 0 where nothing is known."""
        best = -1, 0.0
        for known in self._known:
            found = look_up(known.index, text, more)
            if found is not None:
                best = max(best, known.rates.probabilities(found)[0], key=lambda one: one[1])
        return best
