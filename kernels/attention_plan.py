"""Who reads what in tree_attention: pages, ancestor bits, and how the work is cut. Made on the host, once a forward.

The queries of a session's rows that share a key head lie one after the other. They are cut into tiles, and each tile's
pages into splits: an item is one tile's share of pages. Pages that none of a tile's rows sees are left out at both
ends, so a sliding window or an early row of a prompt reads only what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.arguments import on_device, require

PAGE = SLOT_BUCKET
"""Slots of a page of the key-value pool."""

PAGE_WORDS = PAGE // 32

ALIGNED = 64
"""Numbers of 4 bytes: what CUDA aligns memory to."""

LEAST_QUERIES = 16
"""Of a tile: what a matrix product takes at least."""

LEAST_PAGES = 2
"""Of an item, where there are more: fewer would cost more in joining than they save."""

ENOUGH_JOBS = 512
"""Items times key heads that keep any GPU busy: more splits only add to the joining."""


@dataclass(frozen=True)
class SessionPages:
    """One session: the pool's pages int [P] of its slots, and which of these slots its rows see, bool [R, W], W at most
    64 P."""

    pages: Sequence[int] | NDArray[np.integer[Any]]
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class HeadGroups:
    """share: query heads of a key head. kv_heads: key heads. most_queries: of a tile, a power of 2."""

    share: int
    kv_heads: int
    most_queries: int = 64

    @classmethod
    def of(cls, heads: int, kv_heads: int, itemsize: int) -> HeadGroups:
        """Of numbers of `itemsize` bytes: tiles of float32 are half as large, for registers and shared memory."""
        return cls(heads // kv_heads, kv_heads, 64 if itemsize == 2 else 32)

    def tile_queries(self, rows: int) -> int:
        """Of a tile, where no session has more rows than these: a power of 2."""
        wanted = 1 << (self.share * rows - 1).bit_length()
        return min(self.most_queries, max(LEAST_QUERIES, wanted))

    def most_tiles(self, rows: int, tile_queries: int) -> int:
        """Of any sessions with this many rows together."""
        return rows * self.share // tile_queries + rows

    def most_items(self, tiles: int) -> int:
        """Of any plan with this many tiles."""
        return max(tiles, ENOUGH_JOBS // self.kv_heads)

    def scratch_bytes(self, rows: int, width: int) -> int:
        """What a launch for this many rows leaves for the join, in float32: a value of `width` numbers and two sums of
        each item's queries."""
        queries = self.tile_queries(rows)
        items = self.most_items(self.most_tiles(rows, queries))
        return 4 * items * self.kv_heads * queries * (width + 2)


@dataclass(frozen=True)
class AttentionPlan:
    """All int32, in numpy or as tensors; longer arrays than the counts say hold nothing further.

    pages [P]: of the pool, session by session. words [R, W]: bit b of word w of a row is slot 32 w + b of its session.
    items [I, 5]: first query and the one behind the last (row · share + query of the row), first of `pages`, how many,
    and the first one's number in the session. tiles [T, 4]: first query, the one behind the last, first item, items.
    counts [2]: items and tiles. tile_queries: the most queries of a tile.
    """

    pages: Any
    words: Any
    items: Any
    tiles: Any
    counts: Any
    tile_queries: int

    @classmethod
    def of(
        cls, sessions: Sequence[SessionPages], heads: HeadGroups, tile_queries: int | None = None
    ) -> AttentionPlan:
        """tile_queries: None is what suits the sessions."""
        rows = sum(len(one.seen) for one in sessions)
        queries = tile_queries or heads.tile_queries(max((len(one.seen) for one in sessions), default=1))
        widest = max((len(one.pages) for one in sessions), default=0)
        words = np.zeros((rows, max(1, widest) * PAGE_WORDS), np.uint32)
        cuts: list[tuple[int, int, int, int, int]] = []
        row = page = 0
        for one in sessions:
            own = words[row : row + len(one.seen), : len(one.pages) * PAGE_WORDS]
            _pack(one.seen, own)
            cuts += _cuts(own, row, page, heads.share, queries)
            row += len(one.seen)
            page += len(one.pages)
        items, tiles = _split(np.array(cuts, np.int64).reshape(-1, 5), heads)
        pages = np.concatenate(
            [np.asarray(one.pages, np.int32) for one in sessions] or [np.empty(0, np.int32)]
        )
        counts = np.array([len(items), len(tiles)], np.int32)
        return cls(pages, words.view(np.int32), items, tiles, counts, queries)

    def on(self, device: Any) -> AttentionPlan:
        """As tensors on this device, by one copy; each aligned."""
        arrays = (self.pages, self.words, self.items, self.tiles, self.counts)
        padded = [np.pad(one.reshape(-1), (0, -one.size % ALIGNED)) for one in arrays]
        parts = on_device(np.concatenate(padded), device, None).split([len(one) for one in padded])
        views = (part[: one.size].view(one.shape) for part, one in zip(parts, arrays, strict=True))
        pages, words, items, tiles, counts = views
        return AttentionPlan(pages, words, items, tiles, counts, self.tile_queries)


def _pack(seen: NDArray[np.bool_], words: NDArray[np.uint32]) -> None:
    """Bits [R, W] into words [R, 2 P]."""
    if words.size:
        packed = np.packbits(seen, axis=1, bitorder="little")
        words.view(np.uint8)[:, : packed.shape[1]] = packed


def _cuts(
    words: NDArray[np.uint32], row: int, page: int, share: int, queries: int
) -> list[tuple[int, int, int, int, int]]:
    """A session's tiles as items of all their pages. row, page: the session's first."""
    used = (words.reshape(len(words), -1, PAGE_WORDS) != 0).any(axis=2)
    found = []
    for first in range(0, len(words) * share, queries):
        last = min(first + queries, len(words) * share)
        seen = np.flatnonzero(used[first // share : -(-last // share)].any(axis=0))
        start, end = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
        found.append((row * share + first, row * share + last, page + start, end - start, start))
    return found


def _split(cuts: NDArray[np.int64], heads: HeadGroups) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(items, tiles) of cuts [T, 5]. An item has a power of 2 of pages, the same in all tiles."""
    length, most = LEAST_PAGES, heads.most_items(len(cuts))
    while (splits := np.maximum(1, -(-cuts[:, 3] // length))).sum() > most:
        length *= 2
    firsts = np.cumsum(splits) - splits
    skipped = (np.arange(splits.sum()) - np.repeat(firsts, splits)) * length
    items = np.repeat(cuts, splits, axis=0)
    items[:, 2] += skipped
    items[:, 4] += skipped
    items[:, 3] = np.minimum(items[:, 3] - skipped, length)
    tiles = np.stack([cuts[:, 0], cuts[:, 1], firsts, splits], axis=1)
    return items.astype(np.int32), tiles.astype(np.int32)


def check_plan(plan: AttentionPlan, rows: int, share: int) -> None:
    """Raise EdgespecError where a plan cannot be of `rows` rows with `share` queries each."""
    shapes = [tuple(one.shape) for one in (plan.items, plan.tiles, plan.counts)]
    fits = [shape[1:] for shape in shapes] == [(5,), (4,), ()] and shapes[2] == (2,)
    require(fits, "items, tiles and counts", "[I, 5], [T, 4] and [2]", shapes)
    require(plan.words.shape[0] == rows, "words", f"[{rows}, W]", list(plan.words.shape))
    require(share >= 1, "query heads", "a multiple of the key heads", share)
