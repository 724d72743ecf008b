"""A draft of another tokenizer as a `DraftEngine` of the target's vocabulary.

Whoever uses it sees the target's tokens, one row and one slot each. A token that the draft lacks becomes several rows
and slots of the draft underneath. The noise of a draft token is that of the target's id, so a draft is accepted exactly
when coupled sampling (arXiv 2408.07978) gives the target the same token.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.noise import MASKED
from edgespec.core.slots import CacheFull, FreeSlots, Piece
from edgespec.core.vocabulary_map import VocabularyMap
from edgespec.engines.draft_engine import DraftEngine
from edgespec.engines.manifest import EngineManifest
from edgespec.engines.runtimes import Eyes


class TranslatedEngine:
    """engine: the draft. vocabulary: from the target's to the draft's. target_size: V of the target's logits."""

    def __init__(
        self, engine: DraftEngine, vocabulary: VocabularyMap, target_size: int, tokenizer_path: Path
    ) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._lacking = vocabulary.target_of < 0
        self._columns = np.where(self._lacking, 0, vocabulary.target_of)
        self._no_noise = np.where(self._lacking, MASKED, 0.0).astype(np.float32)[None]
        self.manifest: EngineManifest = engine.manifest
        self.calibration: Calibration = engine.calibration
        self.capacity, self.choices = engine.capacity, engine.choices
        self.vocabulary_size = target_size
        self.eyes: Eyes | None = None  # it leaves pictures out: their rows have no tokens to translate
        self.vocabulary_hash = engine.vocabulary_hash
        self.tokenizer_path = tokenizer_path
        self._forget()

    def twin(self) -> TranslatedEngine:
        return TranslatedEngine(
            self._engine.twin(),
            self._vocabulary,
            self.vocabulary_size,
            self.tokenizer_path,
        )

    def reset(self) -> None:
        self._forget()
        self._engine.reset()

    def _forget(self) -> None:
        self._slots: dict[int, list[int]] = {}
        self._free = FreeSlots(self._engine.capacity)
        self._owner = np.full(self._engine.capacity, -1)
        """The slot here that each of the draft's slots belongs to; -1: to none."""

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As `Runner.run`, over the target's vocabulary. Raises CacheFull."""
        rows = np.arange(len(piece)) if decide is None else np.asarray(decide)
        spread, last = self._spread(piece)
        own_noise = self._no_noise
        own_rows = np.zeros(len(spread), dtype=np.int32)
        if noise is not None and noise_rows is not None:
            own_noise = noise[:, self._columns]
            own_noise[:, self._lacking] = MASKED
            own_rows[last] = noise_rows
        if not len(rows):
            return self._engine.run(spread, None, None, inverse_temperature, rows.astype(np.int32))
        best, scores = self._engine.run(
            spread, own_noise, own_rows, inverse_temperature, last[rows].astype(np.int32)
        )
        return np.maximum(self._vocabulary.target_of[best], 0), scores

    def _spread(self, piece: Piece) -> tuple[Piece, NDArray[np.int64]]:
        """The rows of the draft, and the last of them for each row of the piece."""
        reads = [self._vocabulary.reads[token] for token in piece.tokens.tolist()]
        owner = np.repeat(np.arange(len(piece)), [len(ids) for ids in reads])
        last = np.cumsum([len(ids) for ids in reads]) - 1
        self._take(piece.slots.tolist(), reads)
        cached = self._cached(piece)[owner]
        among = piece.among[owner][:, owner]
        same = owner[:, None] == owner[None, :]
        order = np.arange(len(owner))
        among &= ~same | (order[:, None] >= order[None, :])
        positions = cached.sum(1) + among.sum(1) - 1
        if positions.max(initial=0) >= self._engine.capacity:
            raise CacheFull
        slots = [slot for one in piece.slots.tolist() for slot in self._slots[one]]
        return (
            Piece(
                np.array([token for ids in reads for token in ids], dtype=np.int32),
                positions.astype(np.int32),
                np.array(slots, dtype=np.int32),
                cached,
                among,
                np.zeros(cached.shape[1], dtype=np.int32),  # no draft has a sliding window
            ),
            last,
        )

    def _cached(self, piece: Piece) -> NDArray[np.bool_]:
        """Which of the draft's slots hold ancestors of each row of the piece."""
        owner = self._owner[: self._free.width]
        cached = np.zeros((len(piece), len(owner)), dtype=np.bool_)
        held = (owner >= 0) & (owner < piece.cached.shape[1])
        cached[:, held] = piece.cached[:, owner[held]]
        return cached

    def _take(self, slots: list[int], reads: list[tuple[int, ...]]) -> None:
        """Slots of the draft for the rows; those that these slots had are free again. Raises CacheFull."""
        for slot in slots:
            for own in self._slots.pop(slot, ()):
                self._owner[own] = -1
                self._free.give_back(own)
        wanted = sum(len(ids) for ids in reads)
        if wanted > len(self._free):
            raise CacheFull
        for slot, ids in zip(slots, reads, strict=True):
            self._slots[slot] = [self._free.take() for _ in ids]
            self._owner[self._slots[slot]] = slot
