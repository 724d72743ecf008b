"""From an exit's rows to a hint for each session that listens, by the `exit_verdict` kernel.

The rows' trees follow from the piece that the rows run in; they are worked out once a forward. Whether a hint is sure
enough to be sent is for the session's `Verifier` to say. `Verifier.guess` computes the same in Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels.data import ROOT_ROW, Curves, Trees
from edgespec.kernels.exit_verdict import exit_verdict
from edgespec.model.target_engine import ExitGuess, ForwardRequest


class HintTrees:
    """The draft trees of parts whose decided rows an exit reads, one part after the other."""

    def __init__(self, parts: Sequence[ForwardRequest]) -> None:
        """Raises EdgespecError where a part's first decided row is not an ancestor of its others."""
        counts = [len(part.decide) for part in parts]
        self._temperatures = [part.sampling.temperature for part in parts]
        self._trees = Trees.of(
            np.cumsum([0, *counts]),
            np.concatenate([parents_of(part) for part in parts]),
            np.concatenate([part.piece.tokens[part.decide] for part in parts]),
        )

    def hints(
        self, tokens: NDArray[np.int32], margins: NDArray[np.float32], curves: Curves
    ) -> list[ExitGuess]:
        """Each part's hint, from an exit's tokens and margins [R] of all rows and the exit's calibration curves."""
        found = exit_verdict(tokens, margins, self._trees, curves, curves.index(self._temperatures))
        return [
            ExitGuess(path[:length].tolist(), int(token), float(confidence))
            for length, path, token, confidence in zip(
                found.lengths, found.paths, found.tokens, found.confidences, strict=True
            )
        ]


def parents_of(part: ForwardRequest) -> NDArray[np.int32]:
    """The parent int32 [D] of each decided row among the decided rows, -1 where none is an ancestor of it."""
    above = np.tril(part.piece.among[np.ix_(part.decide, part.decide)], -1)
    nearest = np.arange(len(above)) * above  # ancestors come first, the nearest last
    return np.where(above.any(-1), nearest.max(-1, initial=0), ROOT_ROW).astype(np.int32)
