"""Several levels of the draft tree in one run: what an engine that can do so (`DraftEngine.deep`) takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import Piece


@dataclass(frozen=True)
class Levels:
    """What one run found, level by level, the first level's one row repeated.

    best: int32 [levels, branches, K] and scores: float32 alike, behind each row the best tokens by noisy score, best
    first. tokens: int32 [levels, branches], which of them were kept, the likeliest first, and parents: int32 alike,
    behind which row of their level; they are the next level's rows.
    """

    best: NDArray[np.int32]
    scores: NDArray[np.float32]
    tokens: NDArray[np.int32]
    parents: NDArray[np.int32]


class LevelRuns(Protocol):
    """Runs of `levels` levels, each of `branches` rows behind the first."""

    levels: int
    branches: int

    def run(
        self,
        piece: Piece,
        slots: NDArray[np.int32],
        noise: NDArray[np.float32] | None,
        temperature: float,
        row: int,
    ) -> Levels:
        """Run the piece, and grow the tree behind its row `row`.

        slots: int32 [(levels - 1) * branches], where the keys and values of the rows that the run makes go, level by
        level. noise: float32 [levels, V], that of the positions behind the row; None: no noise, at
        temperature 0.
        """
