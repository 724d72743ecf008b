"""A session's text and draft tree as sequences of llama.cpp's unified key-value memory. Pure.

A cell of that memory belongs to any number of sequences. The session's main sequence is its text. In a forward, the
first path of the tree goes on in the main sequence, and every other leaf has a sequence of its own that shares the
cells of its ancestors: nothing is copied. The next forward says which path was committed: that one becomes the main
sequence, and the others are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.model.target_engine import KvFull, PrefixSalt

MOST_SEQUENCES = 256
"""That llama.cpp knows."""

PADDING = MOST_SEQUENCES - 1
"""The sequence of a row that is there for company alone (decoder.py)."""

BRANCHES = 96
"""Of them, those for leaves of draft trees: more than a forward has rows."""


class Memory(Protocol):
    """Cells, by sequence and position."""

    def remove(self, sequence: int, start: int, end: int) -> None:
        """Positions from `start` to before `end` (-1: all that follow)."""

    def share(self, source: int, destination: int, start: int, end: int) -> None:
        """These positions of `source` belong to `destination` too."""


@dataclass(frozen=True)
class Row:
    """A token at a position of these sequences, the first of which it attends to. decide: its logits are wanted."""

    token: int
    position: int
    sequences: tuple[int, ...]
    decide: bool


class SequencePool:
    """What sessions take: cells in pages of SLOT_BUCKET, and numbers of sequences. `count`, `used`, `reclaimable`: see
    `PageCounts`."""

    size = SLOT_BUCKET

    def __init__(self, memory: Memory, cells: int) -> None:
        self.memory = memory
        self.count = cells // SLOT_BUCKET
        self.used = 0
        self.reclaimable = 0
        self.main = list(range(PADDING - BRANCHES))
        self.branches = list(range(PADDING - BRANCHES, PADDING))


@dataclass
class SessionSequences:
    """One session's `SessionCache`. text_length: tokens of the text that the main sequence holds; rows of the last
    forward may follow."""

    pool: SequencePool
    main: int | None = None
    text_length: int = 0
    _pages: int = 0
    _branches: list[int] = field(default_factory=list)
    _sequence_of: dict[int, int] = field(default_factory=dict)
    """Slot of a node of the last forward -> a sequence that has it and its ancestors."""

    @property
    def bytes(self) -> int:
        return 0  # of the pool, which is taken as a whole

    def reserve(self, slots: int) -> None:
        pool, more = self.pool, -(-slots // SLOT_BUCKET) - self._pages
        if more > pool.count - pool.used:
            raise KvFull(more - (pool.count - pool.used))
        if self.main is None:
            if not pool.main:
                raise KvFull(1)
            self.main = pool.main.pop()
        if more > 0:
            pool.used += more
            self._pages += more

    def adopt(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> int:
        return 0

    def publish(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> None:
        """No other session adopts."""

    def release(self) -> None:
        if self.main is None:
            return
        self._drop_branches()
        self.pool.memory.remove(self.main, 0, -1)
        self.pool.main.append(self.main)
        self.pool.used -= self._pages
        self.main, self.text_length, self._pages = None, 0, 0

    def __del__(self) -> None:
        self.release()

    def rows(self, piece: Piece, decide: Sequence[int]) -> list[Row]:
        """The rows of a forward, whose sequences hold their ancestors from now on. decide: the decided rows."""
        if self.main is None:
            self.reserve(SLOT_BUCKET)
        self._settle(piece)
        parents = _parents(piece)
        sequences = self._sequences(parents)
        decided = set(decide)
        text_rows = (decide[0] + 1) if len(decide) else len(piece)
        self.text_length += text_rows
        slots, positions = piece.slots.tolist(), piece.positions.tolist()
        for row in range(text_rows, len(piece)):
            self._sequence_of[slots[row]] = sequences[row][0]
        return [
            Row(token, position, tuple(own), row in decided)
            for row, (token, position, own) in enumerate(
                zip(piece.tokens.tolist(), positions, sequences, strict=True)
            )
        ]

    def _settle(self, piece: Piece) -> None:
        """The main sequence holds the text before the piece's first row, and nothing else."""
        assert self.main is not None
        memory, first = self.pool.memory, int(piece.positions[0])
        source = self.main
        if first > self.text_length:
            (last,) = (piece.cached[0] & (piece.slot_positions == first - 1)).nonzero()[0].tolist()
            source = self._sequence_of[last]
        if source != self.main:
            memory.remove(self.main, self.text_length, -1)
            memory.share(source, self.main, self.text_length, first)
        memory.remove(self.main, first, -1)
        self._drop_branches()
        self.text_length = first

    def _sequences(self, parents: Sequence[int]) -> list[list[int]]:
        """Each row's sequences: those of the leaves below it. The first path has the main sequence."""
        assert self.main is not None
        memory = self.pool.memory
        found: list[list[int]] = [[] for _ in parents]
        inner = set(parents)
        leaves = [row for row in range(len(parents)) if row not in inner]
        for leaf in leaves:
            sequence = self.main
            if leaf != leaves[0]:
                sequence = self.pool.branches.pop()
                self._branches.append(sequence)
                memory.share(self.main, sequence, 0, -1)
            row = leaf
            while row >= 0:
                found[row].append(sequence)
                row = parents[row]
        return found

    def _drop_branches(self) -> None:
        for sequence in self._branches:
            self.pool.memory.remove(sequence, 0, -1)
            self.pool.branches.append(sequence)
        self._branches.clear()
        self._sequence_of.clear()


def _parents(piece: Piece) -> list[int]:
    """Each row's nearest ancestor among the rows, -1 for none: ancestors come before."""
    above = np.tril(piece.among, -1)
    nearest = np.where(above, np.arange(len(piece)), -1).max(axis=1, initial=-1)
    return [int(row) for row in nearest]
