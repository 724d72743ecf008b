"""Fake models for simulated generations: pure functions of the text, as right or wrong as a test wants them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

VOCABULARY = 50


def hashed(text: Sequence[int], salt: int) -> int:
    """A number that depends on the whole text."""
    return zlib.crc32(repr((tuple(text), salt)).encode())


@dataclass(frozen=True)
class HashModel:
    """A target whose next token is a hash of the text; draft and exits are right with the given probabilities.

    span: hash only this number of last tokens, so that the text soon repeats itself; None: the whole text.
    """

    seed: int = 0
    draft_right: float = 0.6
    exit_right: float = 0.7
    confidence: Callable[[Sequence[int]], float] = lambda text: 0.6
    span: int | None = None

    def target(self, text: Sequence[int]) -> int:
        return hashed(text if self.span is None else text[-self.span :], self.seed) % VOCABULARY

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        best = self._guess(text, 1, self.draft_right)
        return [best, (best + 3) % VOCABULARY], [self.confidence(text), 0.2]

    def exit(self, text: Sequence[int], layer: int) -> tuple[int, float]:
        return self._guess(text, 10 + layer, self.exit_right), self.confidence(text)

    def _guess(self, text: Sequence[int], salt: int, right: float) -> int:
        token = self.target(text)
        return token if hashed(text, salt) % 1000 < right * 1000 else (token + 1 + salt) % VOCABULARY

    def continuation(self, prompt: Sequence[int], length: int, end_tokens: Sequence[int] = ()) -> list[int]:
        """What plain target decoding gives."""
        text = list(prompt)
        for _ in range(length):
            text.append(self.target(text))
            if text[-1] in end_tokens:
                break
        return text[len(prompt) :]
