"""Scripted models: what target, draft and exits answer, with a given acceptance or as recorded from a real pair. Pure.

A real draft is not equally sure everywhere: by fifths of the margin after noise, its first choice is right in a third
of the cases or in nearly all, and its others in the rest. `CalibratedModel` draws each position's fifth, and then what
is right there, from such a table, shifted so that the mean is the acceptance asked for. All answers are functions of
the text, so that every policy meets the same ones. `TraceModel` plays a recorded pair.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.sim.trace import RecordedText, Trace

DRAFT_PROBABILITIES = (
    (0.32, 0.28, 0.12, 0.07),
    (0.44, 0.21, 0.11, 0.05),
    (0.57, 0.17, 0.07, 0.04),
    (0.78, 0.07, 0.04, 0.02),
    (0.95, 0.02, 0.01, 0.005),
)
"""Probabilities of a draft's first to fourth choice, by fifth of its margin: measured on a small pair at T = 0.8."""

EXIT_PROBABILITIES = (0.34, 0.47, 0.59, 0.76, 0.93)
"""The probability that an exit at half depth is right, by fifth of its margin."""

VOCABULARY = 32_000


class CalibratedModel:
    """Answers for `simulation.simulate`.

    acceptance: how often the draft's first choice is right. exit_agreement: how often each exit is right, by layer.
    seed: of the draws. Raises EdgespecError for a share outside 0 to 1.
    """

    def __init__(
        self, acceptance: float = 0.62, exit_agreement: dict[int, float] | None = None, seed: int = 0
    ) -> None:
        agreement = {4: 0.55, 8: 0.73} if exit_agreement is None else exit_agreement
        for share in (acceptance, *agreement.values()):
            if not 0 <= share <= 1:
                raise EdgespecError(f"acceptance and agreement must lie between 0 and 1, not {share:g}.")
        self._seed = seed
        first = _shifted([probabilities[0] for probabilities in DRAFT_PROBABILITIES], acceptance)
        self._draft_probabilities = [
            (one, *(probability * (1 - one) / (1 - probabilities[0]) for probability in probabilities[1:]))
            for one, probabilities in zip(first, DRAFT_PROBABILITIES, strict=True)
        ]
        self._exit_probabilities = {
            layer: _shifted(list(EXIT_PROBABILITIES), share) for layer, share in agreement.items()
        }
        self._position = lru_cache(maxsize=200_000)(self._draw)

    def target(self, text: Sequence[int]) -> int:
        return self._at(text)[0]

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        _, choices, fifth, _ = self._at(text)
        return choices, self._draft_probabilities[fifth]

    def exit(self, text: Sequence[int], layer: int) -> tuple[int, float]:
        token, _, fifth, draw = self._at(text)
        probability = self._exit_probabilities[layer][fifth]
        return (token if draw < probability else (token + 100 + layer) % VOCABULARY), probability

    def _at(self, text: Sequence[int]) -> tuple[int, list[int], int, float]:
        return self._position(hash((self._seed, len(text), tuple(text[-16:]))))

    def _draw(self, key: int) -> tuple[int, list[int], int, float]:
        """The right token, the draft's choices, the fifth of its margin, and the draw that all exits share."""
        rng = random.Random(key)
        token = rng.randrange(VOCABULARY)
        fifth = rng.randrange(5)
        choices = [(token + 1 + rank) % VOCABULARY for rank in range(4)]
        point = rng.random()
        for rank, share in enumerate(self._draft_probabilities[fifth]):
            if point < share:
                choices[rank] = token
                break
            point -= share
        return token, choices, fifth, rng.random()


class TraceModel:
    """Answers for `simulation.simulate` from one recorded text: target, draft and exits as they were.

    Off the target's own text nothing was recorded: there the models answer as a `CalibratedModel` of the trace's
    acceptance and agreement. Such answers cost time and rows as real ones do, but are never committed.
    """

    def __init__(self, trace: Trace, recorded: RecordedText) -> None:
        self._text = [*recorded.prompt, *recorded.tokens]
        self._prompt_length = len(recorded.prompt)
        self._draft = _pairs(recorded.draft_tokens, recorded.draft_probabilities)
        self._exits = {
            layer: _pairs(recorded.exit_tokens[:, i], recorded.exit_probabilities[:, i])
            for i, (layer, _) in enumerate(trace.exits)
        }
        self._elsewhere = CalibratedModel(trace.acceptance, trace.exit_agreement)

    def target(self, text: Sequence[int]) -> int:
        at = self._position(text)
        return self._elsewhere.target(text) if at is None else self._text[len(text)]

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        at = self._position(text)
        return self._elsewhere.draft(text) if at is None else self._draft[at]

    def exit(self, text: Sequence[int], layer: int) -> tuple[int, float]:
        at = self._position(text)
        return self._elsewhere.exit(text, layer) if at is None else self._exits[layer][at]

    def _position(self, text: Sequence[int]) -> int | None:
        """Which recorded token comes behind this text; None off the target's own text and behind its end."""
        at = len(text) - self._prompt_length
        return at if 0 <= at < len(self._draft) and text == self._text[: len(text)] else None


def _pairs(tokens: NDArray[Any], probabilities: NDArray[Any]) -> list[tuple[Any, Any]]:
    return list(zip(tokens.tolist(), probabilities.astype(float).tolist(), strict=True))


def _shifted(probabilities: list[float], mean: float) -> list[float]:
    """The probabilities with their log-odds shifted by the same amount, so that they have this mean."""
    if mean in (0.0, 1.0):
        return [mean] * len(probabilities)
    low, high = -20.0, 20.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        now = [_moved(probability, middle) for probability in probabilities]
        low, high = (middle, high) if sum(now) / len(now) < mean else (low, middle)
    return [_moved(probability, low) for probability in probabilities]


def _moved(probability: float, shift: float) -> float:
    return 1 / (1 + math.exp(-(math.log(probability / (1 - probability)) + shift)))
