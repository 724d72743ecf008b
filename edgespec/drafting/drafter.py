"""The drafter: runs a draft engine for a drafting loop. It joins slots, noise and calibration to a `DraftEngine`.

The engine sees rows and slots, the loop sees nodes and probabilities; this is what lies between them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgespec.core.messages import Verdict
from edgespec.core.noise import MASKED, NoiseRows
from edgespec.core.pacing import DraftPacing
from edgespec.core.row_constraints import Biases
from edgespec.core.slots import CacheFull, Piece, SlotMap
from edgespec.core.text_biases import TextBiases
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.draft_guide import DraftGuide, forced_token
from edgespec.drafting.draft_pictures import DraftPictures
from edgespec.drafting.loop import DraftingLoop, Found
from edgespec.engines.draft_engine import DraftEngine

PREFILL_ROWS = 128
"""Tokens of the text that the draft reads in one run."""


@dataclass(frozen=True)
class Limits:
    """Of what is drafted behind N nodes. allowed: bool [N, V], the tokens that may come; biases: what is added to each
    node's logits. None: nothing is."""

    allowed: NDArray[np.bool_] | None
    biases: Sequence[Biases] | None

    def add_to(self, noise: NDArray[np.float32], inverse_temperature: float) -> None:
        """noise [N, W]: what the engine adds to the logits, times the inverse temperature, of each node."""
        width = noise.shape[1]
        if self.biases is not None:
            for row, (ids, values) in zip(noise, self.biases, strict=True):
                known = ids < width
                row[ids[known]] += np.maximum(values[known] * inverse_temperature, MASKED)
        if self.allowed is not None:
            width = min(self.allowed.shape[1], width)
            noise[:, :width][~self.allowed[:, :width]] = MASKED


class Drafter:
    """One session's use of a draft engine: the same coupled noise as the target's, at the same positions.

    vocabulary_size: the target's; padding may make its embeddings smaller or larger than the draft's. Ids that the
    target lacks are not drafted, and the draft reads id 0 in place of those that it lacks. pacing: holds every run to
    a given time, for experiments. guide: that the session's texts must match. biases: what the target adds to its
    logits.

    pictures: those in the text.
    """

    def __init__(
        self,
        engine: DraftEngine,
        temperature: float,
        seed: int,
        vocabulary_size: int,
        pacing: DraftPacing | None = None,
        guide: DraftGuide | None = None,
        biases: TextBiases | None = None,
    ) -> None:
        self._engine = engine
        self._temperature = temperature
        self._seed = seed
        self._pacing = pacing
        self._guide = guide
        self._biases = None if biases is None or biases.none else biases
        self._slots = SlotMap(engine.capacity)
        self._noise = NoiseRows(engine.vocabulary_size)
        self._vocabulary_size = vocabulary_size
        self.pictures = DraftPictures(engine.eyes)
        engine.reset()

    def run(self, loop: DraftingLoop) -> int | None:
        """Run the engine once, on what the loop wants drafted or on text that the draft has not read yet.

        Returns the number of nodes that it ran on; 0 where the loop learnt nothing new; None: there was nothing to do.
        """
        start_s = time.monotonic()
        nodes = self._run_next(loop, start_s)
        if nodes is not None:
            loop.counts.draft_runs += 1
            loop.counts.draft_ms += (time.monotonic() - start_s) * 1e3
        return nodes

    def _run_next(self, loop: DraftingLoop, start_s: float) -> int | None:
        if loop.draft_full:
            return None
        if self.pictures.unread:
            if not loop.next_draft():  # a draft that rests does not look
                return None
            self.pictures.look()
            return 0
        try:
            if self.prefill(loop.text, loop.tree):
                return 0
            nodes = loop.next_draft()
            if not nodes:
                return None
            forced, nodes, limits = self._limited(loop, nodes)
            if forced:
                loop.on_forced(forced)
            if not nodes:
                return 0
            if self._pacing is not None:
                self._pacing.begin(len(nodes))
            found = self.expand(loop.text, loop.tree, nodes, limits)
            if self._pacing is not None:
                self._pacing.end()
        except CacheFull:
            loop.draft_full = True
            return 0
        loop.on_draft(found, (time.monotonic() - start_s) * 1e3)
        return len(nodes)

    def decode(self, loop: DraftingLoop) -> int | None:
        """Take the draft's best token as if a target had committed it, in a loop whose policy is `DeviceOnly`.

        Returns None where only a piece of the text was read. Raises CacheFull when the draft holds no more.
        """
        if not self.run(loop):
            if loop.draft_full:
                raise CacheFull
            return None
        (token,) = loop.tree[ROOT].children
        self.commit(loop.on_message(Verdict(len(loop.text), [token]), 0.0), loop.tree)
        return token

    def prefill(self, text: Sequence[int], tree: DraftTree) -> bool:
        """Run one chunk of a long stretch of committed text that the draft has not seen; False when none is left.

        Raises CacheFull when the text has outgrown the draft's cache.
        """
        if not self.is_behind(text):
            return False
        text, start = self.pictures.readable(text), self._slots.cached_length
        self._run(self._slots.plan(text, start + PREFILL_ROWS, tree, []), np.zeros(0, dtype=np.int32))
        return True

    def is_behind(self, text: Sequence[int]) -> bool:
        """More of the text is unread than the draft reads in one run."""
        return len(self.pictures.readable(text)) - self._slots.cached_length > PREFILL_ROWS

    def _limited(
        self, loop: DraftingLoop, nodes: Sequence[int]
    ) -> tuple[list[Found], Sequence[int], Limits | None]:
        """What the guide leaves no choice about, the nodes behind which there is one, and what limits it there."""
        if self._guide is None and self._biases is None:
            return [], nodes, None
        generated = loop.text[loop.turn_start :]
        paths = [[loop.tree[one].token for one in loop.tree.path(node)] for node in nodes]
        found, allowed = list[Found](), None
        if self._guide is not None:
            allowed = self._guide.allowed(generated, paths)
            forced = [forced_token(row) for row in allowed]
            found = [
                Found(node, [token], [1.0])
                for node, token in zip(nodes, forced, strict=True)
                if token is not None
            ]
            rows = [row for row, token in enumerate(forced) if token is None]
            allowed, nodes, paths = allowed[rows], [nodes[row] for row in rows], [paths[row] for row in rows]
        biases = None if self._biases is None else self._biases.of_rows(generated, paths)
        return found, nodes, Limits(allowed, biases)

    def expand(
        self,
        text: Sequence[int],
        tree: DraftTree,
        nodes: Sequence[int],
        limits: Limits | None = None,
    ) -> list[Found]:
        """Run the draft on `nodes` (ROOT: on the last committed token), and on their ancestors that it has not seen.
        limits: of what is drafted behind each.

        Raises CacheFull when they do not fit.
        """
        text = self.pictures.readable(text)
        for node in nodes:  # one that ran as an ancestor only runs again: nothing was decided behind it
            self._slots.forget(node, len(text))
        rows = self._unseen(tree, nodes)
        pending = len(text) - self._slots.cached_length
        piece = self._slots.plan(text, len(text), tree, rows, self.pictures.left_out)
        row_of = {ROOT: pending - 1, **{node: pending + i for i, node in enumerate(rows)}}
        decide = np.array([row_of[node] for node in nodes], dtype=np.int32)
        tokens, scores = self._run(piece, decide, limits)
        probabilities = self._probabilities(scores).tolist()
        return [Found(node, *best) for node, *best in zip(nodes, tokens.tolist(), probabilities, strict=True)]

    def commit(self, path: Sequence[int], tree: DraftTree) -> None:
        """These nodes became text; the tree is what is still alive."""
        self._slots.commit(path, tree)

    def truncate(self, length: int) -> None:
        """Forget the draft tree and the committed tokens from `length` on."""
        self._slots.truncate(min(self.pictures.length(length), self._slots.cached_length))

    def _unseen(self, tree: DraftTree, nodes: Sequence[int]) -> list[int]:
        """The nodes and those of their ancestors that are not in the cache, parents first."""
        rows = {ancestor: None for node in nodes for ancestor in tree.path(node)}
        return [node for node in rows if node not in self._slots.nodes]

    def _run(
        self, piece: Piece, decide: NDArray[np.int32], limits: Limits | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        piece = self.pictures.sighted(piece)
        engine, masked = self._engine, self._vocabulary_size < self._engine.vocabulary_size
        lacking = piece.tokens >= engine.vocabulary_size
        if lacking.any():
            piece = replace(piece, tokens=np.where(lacking, 0, piece.tokens).astype(np.int32))
        if not len(decide) or not (self._temperature or masked or limits is not None):
            return engine.run(piece, None, None, 1.0, decide)
        noise_rows = np.zeros(len(piece), dtype=np.int32)
        if self._temperature:
            noise, noise_rows[decide] = self._noise.rows(
                self._seed, piece.positions[decide] + 1 + self.pictures.left_out
            )
        else:
            noise = np.zeros((1, engine.vocabulary_size), dtype=np.float32)
        noise[:, self._vocabulary_size :] = MASKED
        inverse_temperature = 1.0 / (self._temperature or 1.0)
        if limits is not None:
            noise = noise[noise_rows[decide]]  # a row's limits are its own
            noise_rows[decide] = np.arange(len(decide))
            limits.add_to(noise, inverse_temperature)
        return engine.run(piece, noise, noise_rows, inverse_temperature, decide)

    def _probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities [R, K] of noisy scores [R, K]: each rank's, given the margin of the best."""
        margins = scores[:, 0] - scores[:, 1]
        calibration = self._engine.calibration
        ranks = range(scores.shape[1])
        return np.stack(
            [np.asarray(calibration.probability(margins, self._temperature, rank)) for rank in ranks], axis=1
        )
