"""What exits read of the sessions that listen, and a hint for each of these, by the `exit_verdict` kernel.

All is worked out once a forward. Whether a hint is sure enough to be sent is for the session's `Verifier` to say.
`ForwardHints.of_decisions` computes the same in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels.data import Curves, Trees
from edgespec.kernels.exit_verdict import exit_verdict
from edgespec.model.target_engine import ExitGuess, ForwardRequest


@dataclass(frozen=True)
class ListenedRows:
    """The decided rows of sessions that listen, one session after the other: temperatures float32 [D], seeds uint64
    [D], positions int32 [D] of the tokens that are guessed; and of each session the draft tree and the temperature."""

    temperatures: NDArray[np.float32]
    seeds: NDArray[np.uint64]
    positions: NDArray[np.int32]
    trees: Trees
    session_temperatures: Sequence[float]

    @classmethod
    def of(cls, parts: Sequence[ForwardRequest]) -> ListenedRows:
        """Raises EdgespecError where a part's first decided row is not an ancestor of its others."""
        counts = [len(part.decide) for part in parts]
        temperatures = [part.sampling.temperature for part in parts]
        joined = Trees.joined([part.tree for part in parts])
        trees = Trees.of(joined.offsets, joined.parents, joined.tokens)
        return cls(
            np.repeat(np.array(temperatures, np.float32), counts),
            np.repeat(np.array([part.seed for part in parts], np.uint64), counts),
            np.concatenate([part.piece.positions[part.decide] + 1 for part in parts]).astype(np.int32),
            trees,
            temperatures,
        )

    def hints(
        self, tokens: NDArray[np.int32], margins: NDArray[np.float32], curves: Curves
    ) -> list[ExitGuess]:
        """Each session's hint, from an exit's tokens and margins [D] and the exit's calibration curves."""
        found = exit_verdict(tokens, margins, self.trees, curves, curves.index(self.session_temperatures))
        return [
            ExitGuess(path[:length].tolist(), int(token), float(confidence))
            for length, path, token, confidence in zip(
                found.lengths, found.paths, found.tokens, found.confidences, strict=True
            )
        ]
