"""The drafter: runs the draft engine on nodes of the tree. It joins slots, noise and calibration to a `DraftEngine`.

The engine sees rows and slots; the speculator sees nodes and probabilities; this is what lies between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.core.noise import NoiseRows
from edgespec.core.slots import CacheFull, Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.draft_engine import DraftEngine

PREFILL_ROWS = 128
"""Rows of the draft's own prefill that go into one run."""


@dataclass(frozen=True)
class Growth:
    """What the draft found behind one node: its best next tokens and their probabilities, best first."""

    node: int
    tokens: list[int]
    probabilities: list[float]


class Drafter:
    """One session's use of a draft engine: the same coupled noise as the target's, at the same positions."""

    def __init__(self, engine: DraftEngine, temperature: float, seed: int) -> None:
        self._engine = engine
        self._temperature = temperature
        self._seed = seed
        self._slots = SlotMap(engine.capacity)
        self._noise = NoiseRows(engine.vocabulary_size)
        engine.reset()

    def prefill(self, text: Sequence[int], tree: DraftTree) -> bool:
        """Run one chunk of a long stretch of committed text that the draft has not seen; False when none is left.

        Raises CacheFull when the text has outgrown the draft's cache.
        """
        start = self._slots.cached_length
        if len(text) - start <= PREFILL_ROWS:
            return False
        self._run(self._slots.plan(text, start + PREFILL_ROWS, tree, []), np.zeros(0, dtype=np.int32))
        return True

    def grow(self, text: Sequence[int], tree: DraftTree, nodes: Sequence[int]) -> list[Growth]:
        """Run the draft on `nodes` (ROOT: on the last committed token), with what they rest on that it has not seen.

        Raises CacheFull when they do not fit.
        """
        rows = self._rows(text, tree, nodes)
        pending = len(text) - self._slots.cached_length
        piece = self._slots.plan(text, len(text), tree, rows)
        row_of = {ROOT: pending - 1, **{node: pending + i for i, node in enumerate(rows)}}
        decide = np.array([row_of[node] for node in nodes], dtype=np.int32)
        tokens, scores = self._run(piece, decide)
        probabilities = self._probabilities(scores)
        return [Growth(node, tokens[i].tolist(), probabilities[i].tolist()) for i, node in enumerate(nodes)]

    def commit(self, path: Sequence[int], tree: DraftTree) -> None:
        """These nodes became text; the tree is what is still alive."""
        self._slots.commit(path, tree)

    def truncate(self, length: int) -> None:
        """Forget the draft tree and the committed tokens from `length` on."""
        self._slots.truncate(min(length, self._slots.cached_length))

    def _rows(self, text: Sequence[int], tree: DraftTree, nodes: Sequence[int]) -> list[int]:
        """`_unseen`, and those of `nodes` that ran only as somebody's ancestor: nothing was decided behind them."""
        for node in nodes:
            self._slots.forget(node, len(text))
        return self._unseen(tree, nodes)

    def _unseen(self, tree: DraftTree, nodes: Sequence[int]) -> list[int]:
        """The nodes and those of their ancestors that are not in the cache, parents first."""
        rows: dict[int, None] = {}
        for node in nodes:
            for ancestor in tree.path(node):
                if ancestor not in self._slots.nodes:
                    rows[ancestor] = None
        return list(rows)

    def _run(self, piece: Piece, decide: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if not self._temperature or not len(decide):
            return self._engine.run(piece, None, None, 1.0, decide)
        noise, which = self._noise.rows(self._seed, piece.positions[decide] + 1)
        noise_rows = np.zeros(len(piece), dtype=np.int32)
        noise_rows[decide] = which
        return self._engine.run(piece, noise, noise_rows, 1.0 / self._temperature, decide)

    def _probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities [R, K] from noisy scores [R, K]: a rank's probability given the margin of the best."""
        margins = scores[:, 0] - scores[:, 1]
        calibration = self._engine.calibration
        ranks = range(scores.shape[1])
        return np.stack(
            [np.asarray(calibration.probability(margins, self._temperature, rank)) for rank in ranks], axis=1
        )


__all__ = ["CacheFull", "Drafter", "Growth"]
