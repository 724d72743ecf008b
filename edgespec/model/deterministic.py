"""Deterministic forwards: a row's numbers depend on its own text alone, whatever runs beside it.

Two things make them depend on the batch: matrix products choose other kernels for other numbers of rows, and attention
sums over slots in the order in which they lie. Here every forward has CHUNK_ROWS rows, padded with rows that nobody
reads, and each row's ancestors are gathered in the order of their positions, padded to a width that depends on the
row's own position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.kernels.narrow_pool import take
from edgespec.model.batch import AttentionInputs, FlatRows, ModuleInputs
from edgespec.model.kv_cache import SCRATCH
from edgespec.model.masks import Windows, visible
from edgespec.model.target_engine import SessionRows

CHUNK_ROWS = 16
"""Rows of every forward; at most SLOT_BUCKET, since padding rows write to one page."""


@dataclass(frozen=True)
class Gather:
    """Rows int64 [B] of a chunk whose ancestors are padded to one width: the pool's slots of their ancestors in the
    order of positions, int64 [B, W] (padded with the last), and the rows' own positions int64 [B]."""

    rows: Tensor
    ancestors: Tensor
    positions: Tensor

    def mask(self, window: int, dtype: torch.dtype) -> Tensor:
        """Additive [B, 1, 1, W]: column j is position j, seen up to the row's own, `window` of them (0: all)."""
        columns = torch.arange(self.ancestors.shape[1], device=self.ancestors.device)
        own = self.positions[:, None]
        seen = columns <= own if window == 0 else (columns <= own) & (columns > own - window)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None]

    def read(self, pool: Tensor, dtype: torch.dtype) -> Tensor:
        """The ancestors' keys or values [B, G, W, d], in this type."""
        flat = take(pool[0], 1, self.ancestors.reshape(-1), dtype)
        return flat.view(flat.shape[0], *self.ancestors.shape, -1).transpose(0, 1)


@dataclass(frozen=True)
class GatherLayout:
    """Each row attends to its gathered ancestors. The mask's first number is the layer's window, 0 for none."""

    gathers: Sequence[Gather]

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None
    ) -> Tensor:
        heads, rows = query.shape[1:3]
        shared, window = key.shape[1], int(mask[0, 0, 0, 0])
        output = query.new_empty(1, rows, heads, value.shape[-1])
        for gather in self.gathers:
            count = len(gather.rows)
            own = query[0].index_select(1, gather.rows).transpose(0, 1)
            part = scaled_dot_product_attention(
                own.reshape(count, shared, heads // shared, -1),
                gather.read(key, query.dtype),
                gather.read(value, query.dtype),
                attn_mask=gather.mask(window, query.dtype),
                scale=scaling,
            )
            output[0, gather.rows] = part.reshape(count, heads, -1)
        return output


@dataclass(frozen=True)
class Chunk:
    """CHUNK_ROWS rows, of which the first `last - first` are the batch's rows [first, last). decided int64 [D]: those
    that are decided, counted in the chunk; places [D]: where they are among all decided rows of the batch."""

    first: int
    last: int
    decided: Tensor
    places: Tensor
    inputs: ModuleInputs


def chunks(
    batch: Sequence[SessionRows],
    windows: Windows,
    dtype: torch.dtype,
    device: torch.device,
    rotary_cell: int = 0,
) -> Iterator[Chunk]:
    """Cut a batch's rows into chunks, in order. rotary_cell: of the model's vision encoder. Raises KvFull."""

    def on_device(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    flat = FlatRows.of(batch, rotary_cell)
    ancestors = [one.cache.pool_slots(slots) for one in batch for slots in _in_order(one.piece)]
    masks = _window_masks(windows, dtype, device)
    for first in range(0, len(flat.tokens), CHUNK_ROWS):
        chunk = slice(first, first + CHUNK_ROWS)
        last = min(first + CHUNK_ROWS, len(flat.tokens))
        scratch = np.arange(first + CHUNK_ROWS - last) + SCRATCH * SLOT_BUCKET

        def padded(values: NDArray[np.int64], padding: NDArray[np.int64]) -> Tensor:
            axes = np.broadcast_to(padding, (*values.shape[:-1], len(padding)))
            return on_device(np.concatenate([values, axes], axis=-1))

        places = np.flatnonzero((first <= flat.decided) & (flat.decided < last))
        inputs = ModuleInputs(
            tokens=padded(flat.tokens[chunk], 0 * scratch)[None],
            positions=padded(flat.positions[..., chunk], 0 * scratch)[..., None, :],
            slots=padded(flat.slots[chunk], scratch),
            keep=0 if len(places) else torch.empty(0, dtype=torch.int64),
            attention=AttentionInputs(
                None, masks, GatherLayout(_gathers([*ancestors[chunk], *scratch[:, None]], device))
            ),
            pictures=None if flat.pictures is None else flat.pictures.within(first, last),
        )
        yield Chunk(first, last, on_device(flat.decided[places] - first), on_device(places), inputs)


def _in_order(piece: Piece) -> Iterator[NDArray[np.int64]]:
    """Each row's ancestors' slots in the order of their positions, the row's own last."""
    for seen in visible(piece):
        slots = np.flatnonzero(seen)
        yield slots[np.argsort(piece.slot_positions[slots], kind="stable")]


def _gathers(ancestors: Sequence[NDArray[np.int64]], device: torch.device) -> list[Gather]:
    """Rows by the width that their ancestors are padded to: the next power of two from SLOT_BUCKET on."""
    by_width: dict[int, list[int]] = {}
    for row, slots in enumerate(ancestors):
        by_width.setdefault(max(SLOT_BUCKET, 1 << (len(slots) - 1).bit_length()), []).append(row)
    gathers = []
    for width, rows in by_width.items():
        own = [ancestors[row] for row in rows]
        filled = np.stack([np.pad(slots, (0, width - len(slots)), mode="edge") for slots in own])
        positions = np.array([len(slots) - 1 for slots in own])
        columns = (np.array(rows), filled, positions)
        gathers.append(Gather(*(torch.from_numpy(column).to(device) for column in columns)))
    return gathers


def _window_masks(windows: Windows, dtype: torch.dtype, device: torch.device) -> Tensor | dict[str, Tensor]:
    """What transformers hands to attention as a mask, [1, 1, CHUNK_ROWS, 1]: each layer type's window."""
    masks = {
        kind: torch.full((1, 1, CHUNK_ROWS, 1), float(window or 0), dtype=dtype, device=device)
        for kind, window in windows.by_layer_type.items()
    }
    return next(iter(masks.values())) if len(masks) == 1 else masks
