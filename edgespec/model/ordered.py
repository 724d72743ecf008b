"""Deterministic forwards: a row's numbers depend on its own text alone, whatever runs beside it.

Two things make a row depend on its company: matrix products choose other kernels for other numbers of rows,
and attention sums over slots in the order in which they happen to lie. Here every forward has ORDERED_ROWS
rows, filled up with rows that nobody reads, and each row's ancestors are gathered in the order of their
positions, in a width that its own position decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.model.kv_cache import SCRATCH, TargetCache
from edgespec.model.masks import Windows, visible

ORDERED_ROWS = 16
"""Rows of every forward; at most SLOT_BUCKET, since those that fill up write to one page."""


@dataclass(frozen=True)
class Group:
    """Rows of a chunk whose ancestors are gathered in the same width: rows int64 [B], the pool's slots of
    their ancestors in order int64 [B, W] (filled up with the last), their positions int64 [B]."""

    rows: torch.Tensor
    ancestors: torch.Tensor
    positions: torch.Tensor

    def mask(self, window: int, dtype: torch.dtype) -> torch.Tensor:
        """Additive [B, 1, 1, W]: column j is position j, seen up to the row's own, `window` of them (0:
        all)."""
        columns = torch.arange(self.ancestors.shape[1], device=self.ancestors.device)
        own = self.positions[:, None]
        seen = columns <= own if window == 0 else (columns <= own) & (columns > own - window)
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(
            ~seen, torch.finfo(dtype).min
        )[:, None, None]


@dataclass(frozen=True)
class Chunk:
    """ORDERED_ROWS rows of a batch. tokens, positions, slots: int64 [ORDERED_ROWS]; rows: how many are real;
    windows: a marker for each type of layer, a mask [1, 1, ORDERED_ROWS, 1] that holds the window."""

    tokens: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    rows: int
    groups: Sequence[Group]
    windows: torch.Tensor | dict[str, torch.Tensor]


def chunks_of(
    pieces: Sequence[tuple[TargetCache, Piece]], windows: Windows, dtype: torch.dtype, device: torch.device
) -> Iterator[Chunk]:
    """Cut the rows of all pieces, end to end, into chunks. Raises KvFull."""
    tokens = np.concatenate([piece.tokens for _, piece in pieces]).astype(np.int64)
    positions = np.concatenate([piece.positions for _, piece in pieces]).astype(np.int64)
    slots: list[torch.Tensor] = []
    ancestors: list[torch.Tensor] = []
    for cache, piece in pieces:
        own = cache.place(piece.slots.astype(np.int64), piece.cached.shape[1])
        slots.append(torch.from_numpy(own).to(device))
        ancestors += [cache.located(torch.from_numpy(row).to(device)) for row in _in_order(piece)]
    placed = torch.cat(slots)
    markers = _markers(windows, dtype, device)
    for first in range(0, len(tokens), ORDERED_ROWS):
        rows = min(ORDERED_ROWS, len(tokens) - first)
        spare = ORDERED_ROWS - rows
        scratch = torch.arange(spare, device=device) + SCRATCH * SLOT_BUCKET
        yield Chunk(
            tokens=torch.from_numpy(np.pad(tokens[first : first + rows], (0, spare))).to(device),
            positions=torch.from_numpy(np.pad(positions[first : first + rows], (0, spare))).to(device),
            slots=torch.cat([placed[first : first + rows], scratch]),
            rows=rows,
            groups=_groups([*ancestors[first : first + rows], *scratch[:, None]]),
            windows=markers,
        )


def ordered_attention(
    groups: Sequence[Group],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int,
    scaling: float | None,
) -> torch.Tensor:
    """query [1, H, R, d], key and value [1, G, S, d] of the pool -> [1, R, H, d of value]."""
    heads, rows = query.shape[1:3]
    shared = key.shape[1]
    output = query.new_empty(1, rows, heads, value.shape[-1])
    for group in groups:
        count = len(group.rows)
        part = torch.nn.functional.scaled_dot_product_attention(
            query[0].index_select(1, group.rows).transpose(0, 1).reshape(count, shared, heads // shared, -1),
            _gathered(key, group.ancestors),
            _gathered(value, group.ancestors),
            attn_mask=group.mask(window, query.dtype),
            scale=scaling,
        )
        output[0, group.rows] = part.reshape(count, heads, -1)
    return output


def _gathered(pool: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """[B, G, W, d]: the pool's rows at slots [B, W]."""
    count, width = slots.shape
    flat = pool[0].index_select(1, slots.reshape(-1))
    return flat.view(flat.shape[0], count, width, -1).transpose(0, 1)


def _in_order(piece: Piece) -> Iterator[NDArray[np.int64]]:
    """Each row's ancestors' slots, by their positions, itself the last."""
    for seen in visible(piece):
        slots = np.flatnonzero(seen)
        yield slots[np.argsort(piece.slot_positions[slots], kind="stable")]


def _groups(ancestors: Sequence[torch.Tensor]) -> list[Group]:
    """Rows by the width that their ancestors are filled up to: the next power of two from SLOT_BUCKET on."""
    by_width: dict[int, list[int]] = {}
    for row, slots in enumerate(ancestors):
        width = max(SLOT_BUCKET, 1 << (len(slots) - 1).bit_length())
        by_width.setdefault(width, []).append(row)
    groups = []
    for width, rows in by_width.items():
        filled = [
            torch.cat([ancestors[r], ancestors[r][-1:].expand(width - len(ancestors[r]))]) for r in rows
        ]
        last = [len(ancestors[row]) - 1 for row in rows]
        device = filled[0].device
        groups.append(
            Group(torch.tensor(rows, device=device), torch.stack(filled), torch.tensor(last, device=device))
        )
    return groups


def _markers(
    windows: Windows, dtype: torch.dtype, device: torch.device
) -> torch.Tensor | dict[str, torch.Tensor]:
    """What transformers hands on to attention as a mask: the layer's window, 0 for none."""
    markers: dict[str, Any] = {
        kind: torch.full((1, 1, ORDERED_ROWS, 1), float(window or 0), dtype=dtype, device=device)
        for kind, window in windows.by_layer_type.items()
    }
    return next(iter(markers.values())) if len(markers) == 1 else markers
