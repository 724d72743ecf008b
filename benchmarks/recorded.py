"""Drafts of a real engine, recorded once and replayed: a device that drafts as the engine would, at no cost.

So the same blocks can be sent by many devices on one machine, and a server that drafts for itself be compared with them
block by block. For modes that draft one chain: a draft is known by its position and the tokens before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.slots import Piece
from edgespec.engines.draft_engine import DraftEngine

CONTEXT = 8
"""Tokens before a draft by which it is known again."""

Key = tuple[int, ...]
OutputBuffer = tuple[list[int], list[float]]


class _Chain:
    """The tokens of a text and of the chain behind it, by their positions."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}

    def keys(self, piece: Piece, decide: NDArray[np.int32] | None) -> list[Key]:
        positions = piece.positions.tolist()
        self._tokens.update(zip(positions, piece.tokens.tolist(), strict=True))
        rows = range(len(piece)) if decide is None else decide.tolist()
        return [self._key(positions[row]) for row in rows]

    def _key(self, position: int) -> Key:
        before = range(max(0, position - CONTEXT + 1), position + 1)
        return (position, *(self._tokens[at] for at in before))


class RecordingDraft:
    """An engine whose drafts are kept in `said`."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine = engine
        self._chain = _Chain()
        self.said: dict[Key, OutputBuffer] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens, scores = self._engine.run(piece, noise, noise_rows, inverse_temperature, decide)
        for key, own, score in zip(
            self._chain.keys(piece, decide), tokens.tolist(), scores.tolist(), strict=True
        ):
            self.said[key] = (own, score)
        return tokens, scores


class RecordedDraft:
    """Says what was recorded; what was not is drafted wrong."""

    tokenizer_path = Path("unused")

    def __init__(
        self, said: dict[Key, OutputBuffer], calibration: Calibration, capacity: int, vocabulary_size: int
    ) -> None:
        self.calibration = calibration
        self.capacity = capacity
        self.vocabulary_size = vocabulary_size
        self.choices = len(next(iter(said.values()))[0])
        self._output = said
        self._chain = _Chain()

    def reset(self) -> None:
        """It remembers nothing."""

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        unknown = ([0] * self.choices, [0.0] * self.choices)
        said = [self._output.get(key, unknown) for key in self._chain.keys(piece, decide)]
        tokens = np.array([own for own, _ in said], dtype=np.int32).reshape(-1, self.choices)
        return tokens, np.array([scores for _, scores in said], dtype=np.float32).reshape(-1, self.choices)
