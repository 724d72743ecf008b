"""A session's text as one sequence of llama.cpp's key-value memory. Pure.

llama.cpp adds up in the order of its cells, so a row's bits depend on where its text lies. Each session therefore has a
part of the memory of its own, which its text fills from the first cell on, without gaps: whatever was drafted, and
whoever else is served, the text lies where plain decoding puts it. This is why drafts are chains here: the branches of
a tree would lie between the tokens of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.model.target_engine import KvFull, PrefixSalt

MOST_SEQUENCES = 256
"""That llama.cpp knows."""


class Memory(Protocol):
    """Parts of cells, one for each sequence."""

    def remove(self, sequence: int, start: int) -> None:
        """The positions from `start` on."""


@dataclass(frozen=True)
class Row:
    """A token at a position. decide: its logits are wanted."""

    token: int
    position: int
    decide: bool


class SequencePool:
    """The sequences that sessions take. cells: of each one. The rest as in `PageCounts`."""

    size = SLOT_BUCKET
    reclaimable = 0

    def __init__(self, memory: Memory, sequences: int, cells: int) -> None:
        self.memory = memory
        self.cells = cells
        self.pages_each = cells // SLOT_BUCKET
        self.count = sequences * self.pages_each
        self.free = list(range(sequences))

    @property
    def used(self) -> int:
        return self.count - len(self.free) * self.pages_each


@dataclass
class SessionSequence:
    """One session's `SessionCache`."""

    pool: SequencePool
    number: int | None = None

    @property
    def bytes(self) -> int:
        return 0  # of the pool, which is taken as a whole

    @property
    def slots(self) -> int:
        return 0 if self.number is None else self.pool.cells

    def reserve(self, slots: int) -> None:
        pool = self.pool
        if slots > pool.cells:
            raise KvFull(slots - pool.cells)
        if self.number is None:
            if not pool.free:
                raise KvFull(pool.cells)
            self.number = pool.free.pop()

    def adopt(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> int:
        return 0

    def publish(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> None:
        """No other session adopts."""

    def release(self) -> None:
        if self.number is not None:
            self.pool.memory.remove(self.number, 0)
            self.pool.free.append(self.number)
            self.number = None

    def __del__(self) -> None:
        self.release()

    def rows(self, piece: Piece, decide: Sequence[int]) -> tuple[int, list[Row]]:
        """The sequence, which holds the text before the piece and nothing else, and the rows of a forward. decide: the
        decided rows."""
        if self.number is None:
            self.reserve(SLOT_BUCKET)
        assert self.number is not None
        decided = set(decide)
        positions = piece.positions.tolist()
        self.pool.memory.remove(self.number, positions[0])
        rows = zip(piece.tokens.tolist(), positions, strict=True)
        return self.number, [
            Row(token, position, row in decided) for row, (token, position) in enumerate(rows)
        ]
