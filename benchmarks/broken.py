"""A draft and exits that are always wrong, and as sure of themselves as the real ones: what a session must survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.edge.draft import DraftEngine


class WrongDraft:
    """An engine whose every choice is another token than the real draft's."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, *arguments: Any, **options: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens, scores = self._engine.run(*arguments, **options)
        return (tokens + self._engine.vocabulary_size // 2) % self._engine.vocabulary_size, scores


def save_wrong_exits(exits: Path, folder: Path) -> Path:
    """The exit heads of `exits` with their adapters thrown about, calibration kept; returns `folder`."""
    import torch

    from edgespec.target.exits import ExitHeads

    heads = ExitHeads.load(exits)
    random = torch.Generator().manual_seed(0)
    for head in heads.heads.values():
        head.up = (
            head.up + torch.randn(head.up.shape, generator=random).to(head.up) * 3 * head.up.float().std()
        )
        head.norm = -head.norm
    heads.save(folder)
    return folder
