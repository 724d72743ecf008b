"""Guesses from texts that were seen before: what followed the last tokens, and how likely that makes it now.

The index (csrc/lookup) counts what followed the longest match. How often such guesses come true is learnt as they are
used, by length of the match and by how far its occurrences agree; so texts that do not repeat stop being guessed. The
server looks up in the text itself, a device in the texts that it remembers. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from edgespec import _native
from edgespec.core.calibration_ratios import CalibrationRatio

DECAY = 0.98
PRIOR = 4.0
"""Observations that what is expected at first counts for."""

RATIO_PRIOR = 5.0
"""Observations that all of them together are trusted for."""

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Matches are told apart by the largest of these lengths, in tokens, that they reach."""

AT_FIRST = (0.22, 0.3, 0.45, 0.6, 0.72, 0.8, 0.86, 0.9)
"""How often the likeliest token is taken to be right, for each of them."""

UNANIMOUS = 0.8
"""Occurrences agree where this share of them was followed by the same token."""

Stance = Literal["silent", "agrees", "contradicts"]
STANCES: dict[Stance, float] = {"silent": 1.0, "agrees": 1.1, "contradicts": 0.4}
"""What the draft, which knows the draw, says in the place of a guess, and by what that multiplies the probability at
first. Silent: it was not run there."""

STANCE_NUMBERS = {stance: number for number, stance in enumerate(STANCES)}

RATES_AT_FIRST = [
    min(0.95, at_first * support * stance)
    for at_first in AT_FIRST
    for support in (0.9, 1.05, 0.6)
    for stance in STANCES.values()
]
"""Of each kind of guess, see `_kind`."""

MOST_CHOICES = 3
LARGEST_SUM = 0.98


class Guess(NamedTuple):
    """length: tokens that matched. total: occurrences. choices: what followed, with counts, most frequent first."""

    length: int
    total: int
    choices: list[tuple[int, int]]

    @property
    def token(self) -> int:
        """The likeliest."""
        return self.choices[0][0]


@dataclass
class LookupRates:
    """How often the likeliest token of a guess was right, by kind of guess. ratio: over all kinds, so that texts which
    do not repeat are found out before each kind has been seen."""

    _right: list[float] = field(default_factory=lambda: [PRIOR * rate for rate in RATES_AT_FIRST])
    _offered: list[float] = field(default_factory=lambda: [PRIOR] * len(RATES_AT_FIRST))
    ratio: CalibrationRatio = field(default_factory=lambda: CalibrationRatio(RATIO_PRIOR))

    def rate(self, guess: Guess, stance: Stance = "silent") -> float:
        kind = _kind(guess, stance)
        return self.ratio.corrected(self._right[kind] / self._offered[kind])

    def observe(self, guess: Guess, token: int, stance: Stance = "silent") -> None:
        """The guess was judged: this is the right token."""
        kind = _kind(guess, stance)
        self.ratio.observe(self._right[kind] / self._offered[kind], token == guess.token)
        self._offered[kind] = self._offered[kind] * DECAY + 1
        self._right[kind] = self._right[kind] * DECAY + (token == guess.token)

    def probabilities(self, guess: Guess, stance: Stance = "silent") -> list[tuple[int, float]]:
        """The next tokens, likeliest first, each with its probability."""
        rate, first = self.rate(guess, stance), guess.choices[0][1]
        found, left = [], LARGEST_SUM
        for token, count in guess.choices[:MOST_CHOICES]:
            probability = min(rate * count / first, left)
            found.append((token, probability))
            left -= probability
        return found


def look_up(index: _native.TextIndex, text: list[int], more: list[int]) -> Guess | None:
    """What the index knows to follow `text` and `more`; None: nothing."""
    length, total, choices = index.find(text, more)
    return Guess(length, total, choices) if length else None


def _kind(guess: Guess, stance: Stance) -> int:
    length = max(i for i, least in enumerate(LENGTHS) if guess.length >= least)
    support = 0 if guess.total == 1 else 1 if guess.choices[0][1] >= UNANIMOUS * guess.total else 2
    return (length * 3 + support) * len(STANCES) + STANCE_NUMBERS[stance]
