"""The target's key-value memory: one pool of pages for all sessions. A slot is not a position, and a commit or a dead
branch changes masks, never this memory.

A forward writes its rows' keys and values to their slots; attention sees the first W slots of its session, and a mask
(masks.py) says which of them are ancestors. A session's slots lie in pages of the pool (kv_pages.py), contiguous where
possible, so that attention reads them in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.kernels.narrow_pool import put, take
from edgespec.model.kv_pages import Pages, runs
from edgespec.model.target_engine import PrefixSalt

SCRATCH = 0
"""The pool's first page: rows that pad a fixed shape write there, and nobody reads it."""


class _Placement:
    """Where the running forward's rows go, shared by all layers; see `KvPool.place`."""

    slots: torch.Tensor = torch.empty(0, dtype=torch.int64)
    seen: torch.Tensor | None = None


class PoolLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys [1, heads, pages · SLOT_BUCKET, key width], and its values."""

    is_sliding = False

    def __init__(
        self,
        placement: _Placement,
        pages: int,
        like: PoolLayer | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """like: take that layer's shapes and type; memory is then untouched, to be zeroed as pages are taken. dtype: as
        in KvPool."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._placement = placement
        self._slots = pages * SLOT_BUCKET
        self._dtype = dtype
        self.keys: torch.Tensor
        self.values: torch.Tensor
        if like is not None:
            self.keys, self.values = (
                old.new_empty(1, old.shape[1], self._slots, old.shape[3]) for old in (like.keys, like.values)
            )
            self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the rows' keys and values [1, heads, R, width]; return those that attention reads: the whole pool as it
        is, or the slots that it sees in the rows' type."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        put(self.keys, 2, self._placement.slots, key_states)
        put(self.values, 2, self._placement.slots, value_states)
        seen = self._placement.seen
        if seen is None:
            return self.keys, self.values
        keys, values = (take(pool, 2, seen, key_states.dtype) for pool in (self.keys, self.values))
        return keys, values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Zeros, since even a masked slot must hold finite numbers."""
        self.keys, self.values = (
            states.new_zeros(1, states.shape[1], self._slots, states.shape[3], dtype=self._dtype)
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slots, 0

    def get_seq_length(self) -> int:
        return self._slots

    def get_max_length(self) -> int:
        return self._slots


class KvPool(Cache):
    """All sessions' keys and values in all layers; `pages` counts their readers.

    like: a pool that was used already, whose shapes this one takes; its memory is then touched only as pages are
    taken, or by `claim`. changed: called before each change ("pool", "clear" or "copy", and its arguments). dtype: what
    it keeps; None: what it is given."""

    def __init__(
        self,
        layers: int,
        pages: int,
        like: KvPool | None = None,
        changed: Callable[..., None] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.pages = Pages(pages)
        self._placement = _Placement()
        self._changed = changed or (lambda *change: None)
        self._changed("pool", layers, pages, like is None)
        old: Sequence[PoolLayer | None] = [None] * layers if like is None else like.pool_layers
        self.pool_layers: list[PoolLayer] = [PoolLayer(self._placement, pages, layer, dtype) for layer in old]
        super().__init__(layers=[*self.pool_layers])
        self.clear(self.pages.take(1))  # SCRATCH

    @property
    def page_bytes(self) -> int:
        """Memory of a page in all layers; known after the first forward."""
        return sum(memory.nbytes for memory in self._memories()) // self.pages.count

    @property
    def placed(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The arguments of the last `place`."""
        return self._placement.slots, self._placement.seen

    def place(self, slots: torch.Tensor, seen: torch.Tensor | None) -> None:
        """The next forward's rows go to the pool's `slots` int64 [R]; attention reads `seen` int64 [W], None: the
        whole pool."""
        self._placement.slots, self._placement.seen = slots, seen

    def clear(self, pages: Sequence[int]) -> None:
        """Zero these pages: even a masked slot must hold finite numbers."""
        self._changed("clear", list(pages))
        for _, start, length in runs(pages).tolist():
            for memory in self._memories():
                memory[:, :, start : start + length].zero_()

    def claim(self) -> None:
        """Take all memory from the system now: a server's memory then stays constant, and what is missing fails at
        once."""
        self.clear(range(self.pages.count))

    def copy(self, source: int, to: int) -> None:
        """Copy a page."""
        self._changed("copy", source, to)
        here, there = (slice(page * SLOT_BUCKET, (page + 1) * SLOT_BUCKET) for page in (source, to))
        for memory in self._memories():
            memory[:, :, there] = memory[:, :, here]

    def _memories(self) -> Iterator[torch.Tensor]:
        for layer in self.pool_layers:
            if layer.is_initialized:
                yield from (layer.keys, layer.values)


class TargetCache:
    """One session's part of the pool: a `target_engine.SessionCache`. capacity: slots that it may grow to; it takes
    pages as rows need them."""

    def __init__(self, pool: KvPool, capacity: int) -> None:
        self.pool = pool
        self.capacity = capacity
        self.pages: list[int] = []
        self._cleared = 0
        """The first pages, in which every slot holds finite numbers."""

    @property
    def bytes(self) -> int:
        return len(self.pages) * self.pool.page_bytes

    @property
    def slots(self) -> int:
        return len(self.pages) * SLOT_BUCKET

    @property
    def start(self) -> int | None:
        """The pool's slot of this session's first one if all its pages are contiguous; else None."""
        return self.pages[0] * SLOT_BUCKET if len(runs(self.pages)) == 1 else None

    def reserve(self, slots: int) -> None:
        count = -(-slots // SLOT_BUCKET) - len(self.pages)
        if count > 0:
            self.pages += self.pool.pages.take(count, self.pages[-1] if self.pages else None)

    def adopt(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> int:
        assert not self.pages
        self.pages = self.pool.pages.find(tokens, pictures, salt)
        self._cleared = len(self.pages)
        return len(self.pages) * SLOT_BUCKET

    def publish(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> None:
        self.pool.pages.remember(tokens, self.pages, pictures, salt)

    def release(self) -> None:
        self.pool.pages.drop(self.pages)
        self.pages, self._cleared = [], 0

    def __del__(self) -> None:
        self.release()

    def slots_to_write(self, piece: Piece) -> NDArray[np.int64]:
        """The pool's slots int64 [R] that a piece's rows are about to write. Takes the pages that the piece sees, and
        clears them when they are first seen, not all at once; a page that others read is copied first. Raises KvFull.
        """
        width = piece.cached.shape[1]
        if width > len(self.pages) * SLOT_BUCKET:
            self.reserve(min(max(width, 2 * len(self.pages) * SLOT_BUCKET), max(width, self.capacity)))
        seen = -(-width // SLOT_BUCKET)
        if seen > self._cleared:
            self.pool.clear(self.pages[self._cleared : seen])
            self._cleared = seen
        for index in np.unique(piece.slots // SLOT_BUCKET).tolist():
            page = self.pages[index]
            if self.pool.pages.shared(page):
                (self.pages[index],) = self.pool.pages.take(1)
                self.pool.copy(page, self.pages[index])
                self.pool.pages.drop([page])
        return self.pool_slots(piece.slots)

    def pool_slots(self, slots: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The pool's slots for this session's slots [N]."""
        slots = slots.astype(np.int64)
        pages = np.array(self.pages, dtype=np.int64)[slots // SLOT_BUCKET]
        in_pool: NDArray[np.int64] = pages * SLOT_BUCKET + slots % SLOT_BUCKET
        return in_pool
