"""The target's key-value memory: one pool of pages for all sessions; a slot is not a position, and nothing is
copied but the rows themselves.

A forward scatters its rows' keys and values into their slots; attention sees the first W slots of its
session, and a mask (`target_masks`) says which of them are whose ancestors. A commit or a dead branch changes
masks, never this memory. A session's slots are pages of the pool (`kv_pages`), side by side where possible,
so that attention reads them where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

from edgespec.core.slots import SLOT_BUCKET
from edgespec.model.kv_pages import Pages

SCRATCH = 0
"""The pool's first page: rows that fill up a fixed shape write there, and nobody reads it."""


def untold(*change: Any) -> None:
    """Nobody else has a part of the pool."""


class _Rows:
    """Where the running forward's rows go, shared by all layers: slots of the pool int64 [R], and the slots
    whose keys and values `update` shall return int64 [W], None for the whole pool."""

    def __init__(self) -> None:
        self.slots = torch.empty(0, dtype=torch.int64)
        self.seen: torch.Tensor | None = None


class PoolLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys [1, heads, pages · SLOT_BUCKET, key width], and values alike."""

    is_sliding = False

    def __init__(self, rows: _Rows, pages: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows = rows
        self._slots = pages * SLOT_BUCKET
        self.keys: torch.Tensor
        self.values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the rows' keys and values [1, heads, R, width]; return those that attention reads."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys.index_copy_(2, self._rows.slots, key_states)
        self.values.index_copy_(2, self._rows.slots, value_states)
        if self._rows.seen is None:
            return self.keys, self.values
        return self.keys.index_select(2, self._rows.seen), self.values.index_select(2, self._rows.seen)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Zeros, not whatever the memory held: a masked slot must hold finite numbers."""
        self.keys = key_states.new_zeros(1, key_states.shape[1], self._slots, key_states.shape[3])
        self.values = value_states.new_zeros(1, value_states.shape[1], self._slots, value_states.shape[3])
        self.is_initialized = True

    def resized(self, rows: _Rows, pages: int) -> PoolLayer:
        """Such a layer with so many pages; its memory is untouched, to be zeroed as pages are taken."""
        other = PoolLayer(rows, pages)
        other.keys = self.keys.new_empty(1, self.keys.shape[1], other._slots, self.keys.shape[3])
        other.values = self.values.new_empty(1, self.values.shape[1], other._slots, self.values.shape[3])
        other.is_initialized = True
        return other

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._slots, 0

    def get_seq_length(self) -> int:
        return self._slots

    def get_max_length(self) -> int:
        return self._slots


class KvPool(Cache):
    """All sessions' keys and values in all layers; `pages` keeps the books.

    like: a pool that was used already, whose shapes this one takes; its memory is then touched only as pages
    are taken, or by `claim`. changed: told of what is done to it ("pool", "clear", "copy" and the arguments), before
    it is done.
    """

    def __init__(
        self,
        layers: int,
        pages: int,
        like: KvPool | None = None,
        changed: Callable[..., None] = untold,
    ) -> None:
        self.pages = Pages(pages)
        self._rows = _Rows()
        self._changed = changed
        changed("pool", layers, pages, like is None)
        if like is None:
            self.pool_layers = [PoolLayer(self._rows, pages) for _ in range(layers)]
        else:
            self.pool_layers = [layer.resized(self._rows, pages) for layer in like.pool_layers]
        super().__init__(layers=[*self.pool_layers])
        self.clear(self.pages.take(1))  # SCRATCH

    @property
    def page_bytes(self) -> int:
        """Memory that a page takes; known after the first forward."""
        held = [layer for layer in self.pool_layers if layer.is_initialized]
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in held) // self.pages.count

    @property
    def placed(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What `place` was told last."""
        return self._rows.slots, self._rows.seen

    def place(self, slots: torch.Tensor, seen: torch.Tensor | None) -> None:
        """The next forward's rows go to the pool's `slots` int64 [R]; it reads all of the pool, or `seen`
        alone."""
        self._rows.slots = slots
        self._rows.seen = seen

    def clear(self, pages: Sequence[int]) -> None:
        """Zero what these pages hold: what a masked slot holds must at least be a number."""
        self._changed("clear", list(pages))
        for start, stop in _stretches(pages):
            for layer in self.pool_layers:
                if layer.is_initialized:
                    layer.keys[:, :, start * SLOT_BUCKET : stop * SLOT_BUCKET].zero_()
                    layer.values[:, :, start * SLOT_BUCKET : stop * SLOT_BUCKET].zero_()

    def claim(self) -> None:
        """Take all pages' memory from the system now, not when they are first used: what a server holds then stays
        the same, and what is not there is missed at once."""
        self.clear(range(self.pages.count))

    def copy(self, source: int, to: int) -> None:
        """Copy a page."""
        self._changed("copy", source, to)
        here, there = (slice(page * SLOT_BUCKET, (page + 1) * SLOT_BUCKET) for page in (source, to))
        for layer in self.pool_layers:
            if layer.is_initialized:
                layer.keys[:, :, there] = layer.keys[:, :, here]
                layer.values[:, :, there] = layer.values[:, :, here]


class TargetCache:
    """One session's part of the pool. capacity: slots it may grow to; it takes pages when it is told to or
    must."""

    def __init__(self, pool: KvPool, capacity: int) -> None:
        self.pool = pool
        self.capacity = capacity
        self.pages: list[int] = []

    @property
    def bytes(self) -> int:
        """Memory held now, a shared page counted in full."""
        return len(self.pages) * self.pool.page_bytes

    @property
    def start(self) -> int | None:
        """The pool's slot where this session's first lies, if all its pages lie side by side; else None."""
        pages = self.pages
        together = bool(pages) and pages[-1] - pages[0] == len(pages) - 1 and len(_stretches(pages)) == 1
        return pages[0] * SLOT_BUCKET if together else None

    def reserve(self, slots: int) -> None:
        """Hold pages for at least so many slots. Raises KvFull, with nothing changed."""
        count = -(-slots // SLOT_BUCKET) - len(self.pages)
        if count > 0:
            taken = self.pool.pages.take(count, self.pages[-1] if self.pages else None)
            self.pool.clear(taken)
            self.pages += taken

    def adopt(self, tokens: Sequence[int]) -> int:
        """Read the first tokens of `tokens` from pages that hold them already; how many tokens that is.

        Only an empty cache adopts: its slots 0, 1, ... are then those tokens.
        """
        assert not self.pages
        self.pages = self.pool.pages.find(tokens)
        return len(self.pages) * SLOT_BUCKET

    def publish(self, tokens: Sequence[int]) -> None:
        """Slots 0, 1, ... hold `tokens`: let others adopt them."""
        self.pool.pages.remember(tokens, self.pages)

    def release(self) -> None:
        """Give every page back."""
        self.pool.pages.drop(self.pages)
        self.pages = []

    def __del__(self) -> None:
        self.release()

    def place(self, slots: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        """The pool's slots int64 [R] for this session's `slots` int64 [R], which rows are about to write,
        where attention will see the first `width`. Takes pages that are missing; a page that others read is
        copied first. Raises KvFull."""
        if width > len(self.pages) * SLOT_BUCKET:
            self.reserve(min(max(width, 2 * len(self.pages) * SLOT_BUCKET), max(width, self.capacity)))
        page_of = slots // SLOT_BUCKET
        for index in sorted(set(page_of.tolist())):
            page = self.pages[index]
            if self.pool.pages.shared(page):
                (self.pages[index],) = self.pool.pages.take(1)
                self.pool.copy(page, self.pages[index])
                self.pool.pages.drop([page])
        return np.array(self.pages, dtype=np.int64)[page_of] * SLOT_BUCKET + slots % SLOT_BUCKET

    def located(self, slots: torch.Tensor) -> torch.Tensor:
        """The pool's slots for slots of this session, both int64 [...]."""
        table = torch.tensor(self.pages, dtype=torch.int64, device=slots.device)
        return table[slots // SLOT_BUCKET] * SLOT_BUCKET + slots % SLOT_BUCKET


def _stretches(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Rising neighbours joined: [start, stop) of each."""
    stretches: list[tuple[int, int]] = []
    for page in pages:
        if stretches and stretches[-1][1] == page:
            stretches[-1] = (stretches[-1][0], page + 1)
        else:
            stretches.append((page, page + 1))
    return stretches
