"""Slots: where each token's keys and values live in a cache that serves a tree without copies.

A slot is not a position. Every row of a forward writes its keys to a free slot, a mask says which slots are
its ancestors, a commit changes the mask, and the slots of dead nodes are used again. Edge and server share
this file: it plans a `Piece` (rows that go through a model together) and knows nothing of models.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.core.pictures import SeenRows
from edgespec.core.tree import ROOT, DraftTree

SLOT_BUCKET = 64
"""Masks are a multiple of this wide, so that attention sees few different shapes."""


class CacheFull(Exception):
    """No free slot is left: the session has reached the cache's capacity."""


@dataclass(frozen=True)
class Piece:
    """Rows that go through a model together.

    tokens, positions: int32 [R], the rows' tokens and their absolute positions in the text. slots: int32 [R],
    where each row's keys and values go. cached: bool [R, W], which slots already in the cache hold ancestors
    of the row; W is a multiple of SLOT_BUCKET and above every slot in use. among: bool [R, R], which rows of
    this piece are ancestors of the row, itself included. slot_positions: int32 [W], the position of the token
    in each slot (sliding windows need it). seen: for a draft that sees; None: every row is text, and its rotary
    position is its position.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    slots: NDArray[np.int32]
    cached: NDArray[np.bool_]
    among: NDArray[np.bool_]
    slot_positions: NDArray[np.int32]
    seen: SeenRows | None = None

    def __len__(self) -> int:
        return len(self.tokens)


class FreeSlots:
    """Slots of a cache that hold nothing. The lowest is taken first, so that masks stay narrow."""

    def __init__(self, capacity: int, used: int = 0) -> None:
        """used: slots from 0 on that are taken already."""
        self._capacity = capacity
        self._returned: list[int] = []
        self._unused = used
        """The first of those that nobody ever had."""

    def __len__(self) -> int:
        return self._capacity - self._unused + len(self._returned)

    @property
    def width(self) -> int:
        """Of a mask over all slots that were ever taken."""
        return min(self._capacity, -(-self._unused // SLOT_BUCKET) * SLOT_BUCKET)

    def take(self) -> int:
        """Only while there is one."""
        if self._returned:
            return heapq.heappop(self._returned)
        self._unused += 1
        return self._unused - 1

    def give_back(self, slot: int) -> None:
        heapq.heappush(self._returned, slot)


class SlotMap:
    """Which slot holds which token of one session: its committed text and the nodes of its draft tree.

    `cached_length` committed tokens are in the cache, from the first one on, without a gap. free: slots that rows may
    still take.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.committed: list[int] = []
        self.nodes: dict[int, int] = {}
        self.free = FreeSlots(capacity)
        self._committed_mask = np.zeros(0, dtype=np.bool_)  # of the slots used so far: a short text needs few
        self._positions = np.zeros(0, dtype=np.int32)

    @property
    def cached_length(self) -> int:
        return len(self.committed)

    @property
    def in_order(self) -> int:
        """How many of the first committed tokens lie in slots 0, 1, 2, ..."""
        slots = np.array(self.committed, dtype=np.int64)
        out_of_order = np.flatnonzero(slots != np.arange(len(slots)))
        return int(out_of_order[0]) if len(out_of_order) else len(slots)

    def plan(
        self, text: Sequence[int], length: int, tree: DraftTree, nodes: Sequence[int], left_out: int = 0
    ) -> Piece:
        """Give slots to the committed tokens up to `length` that are not cached yet, and to `nodes`, parents
        first.

        text: the committed tokens. left_out: how many of those that the tree counts are not in `text`. Each node's
        ancestors must be cached, or among the rows. Raises CacheFull, with nothing changed, when the rows do not fit.
        """
        start = self.cached_length
        pending = length - start
        rows = pending + len(nodes)
        if rows > len(self.free):
            raise CacheFull
        slots = [self.free.take() for _ in range(rows)]
        row_of = {node: pending + i for i, node in enumerate(nodes)}
        width = self._widen()
        taken = np.array(slots, dtype=np.int32)
        tokens = np.array([*text[start:length], *(tree[node].token for node in nodes)], dtype=np.int32)
        positions = np.array(
            [*range(start, length), *(tree[node].position - left_out for node in nodes)], dtype=np.int32
        )
        cached = np.repeat(self._committed_mask[None, :width], rows, axis=0)
        among = np.eye(rows, dtype=np.bool_)
        among[:, :pending] = True
        if pending > 1:
            among[:pending, :pending] = np.tri(pending, dtype=np.bool_)
        for node, row in row_of.items():
            parent = tree[node].parent
            while parent != ROOT and parent not in row_of:
                cached[row, self.nodes[parent]] = True
                parent = tree[parent].parent
            if parent != ROOT:
                cached[row] |= cached[row_of[parent]]
                among[row] |= among[row_of[parent]]

        self._positions[taken] = positions
        self.committed.extend(slots[:pending])
        self._committed_mask[taken[:pending]] = True
        self.nodes.update((node, slots[row]) for node, row in row_of.items())
        return Piece(tokens, positions, taken, cached, among, self._positions[:width].copy())

    def commit(self, path: Iterable[int], live: DraftTree) -> None:
        """The cached nodes of `path` became committed text; slots of nodes that left the tree are free again.

        path: the nodes that were committed, in order, from the old root on; it ends at the first one not
        cached.
        """
        for node in path:
            slot = self.nodes.pop(node, None)
            if slot is None:
                break
            self.committed.append(slot)
            self._committed_mask[slot] = True
        for node in [node for node in self.nodes if node not in live]:
            self.free.give_back(self.nodes.pop(node))

    def adopt(self, length: int) -> None:
        """Slots 0 to length - 1 hold the first tokens of the text already. Only an empty map adopts."""
        assert not self.committed and not self.nodes
        self.committed = list(range(length))
        self.free = FreeSlots(self.capacity, used=length)
        self._widen()
        self._committed_mask[:length] = True
        self._positions[:length] = np.arange(length)

    def forget(self, node: int, committed_length: int) -> None:
        """Drop the node (ROOT: the last of `committed_length` tokens) from the cache, if it is there."""
        if node != ROOT:
            slot = self.nodes.pop(node, None)
        elif self.cached_length == committed_length:
            slot = self.committed.pop()
            self._committed_mask[slot] = False
        else:
            slot = None
        if slot is not None:
            self.free.give_back(slot)

    def truncate(self, length: int) -> None:
        """Forget every node, and the committed tokens from `length` on."""
        dropped = self.committed[length:] + list(self.nodes.values())
        self._committed_mask[np.array(self.committed[length:], dtype=np.int64)] = False
        del self.committed[length:]
        self.nodes.clear()
        for slot in dropped:
            self.free.give_back(slot)

    def _widen(self) -> int:
        """Room for all slots in use; how wide the masks of the next piece are."""
        width = self.free.width
        if width > len(self._positions):
            more = min(self.capacity, max(width, 2 * len(self._positions))) - len(self._positions)
            self._committed_mask = np.pad(self._committed_mask, (0, more))
            self._positions = np.pad(self._positions, (0, more))
        return width
