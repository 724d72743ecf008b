"""A draft and exits that are wrong, and as sure of themselves as the real ones: what a session must survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import Piece
from edgespec.engines.draft_engine import DraftEngine


class WrongDraft:
    """An engine whose choices, at this share of all positions, are other tokens than the real draft's."""

    def __init__(self, engine: DraftEngine, share: float = 1.0) -> None:
        self._engine = engine
        self._share = share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(
        self, piece: Piece, noise: Any, noise_rows: Any, inverse_temperature: float, decide: Any = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens, scores = self._engine.run(piece, noise, noise_rows, inverse_temperature, decide)
        positions = piece.positions if decide is None else piece.positions[decide]
        wrong = positions.astype(np.uint32) * np.uint32(2654435761) < self._share * 2**32
        other = (tokens + self._engine.vocabulary_size // 2) % self._engine.vocabulary_size
        return np.where(wrong[:, None], other, tokens), scores


def save_wrong_exits(exits: Path, folder: Path) -> Path:
    """The exit heads of `exits` with their adapters thrown about, calibration kept; returns `folder`."""
    import torch

    from edgespec.model.exits import ExitHeads

    heads = ExitHeads.load(exits)
    random = torch.Generator().manual_seed(0)
    for head in heads.heads.values():
        head.up = (
            head.up + torch.randn(head.up.shape, generator=random).to(head.up) * 3 * head.up.float().std()
        )
        head.norm = -head.norm
    heads.save(folder)
    return folder
