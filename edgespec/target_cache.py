"""The target's KV cache of one session: a slot is not a position, and nothing is ever copied but the rows
themselves.

A forward scatters its rows' keys and values into their slots; attention sees the first W slots, and a mask
(`target_masks`) says which of them are whose ancestors. A commit or a dead branch changes masks, never this
memory.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

FIRST_SLOTS = 256
"""Slots that a new cache has memory for; it doubles when they do not suffice."""


class _Rows:
    """Where the running forward's rows go, shared by all layers: slots int64 [R]; attention sees the first
    `width`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.width = 0
        self.slots = torch.empty(0, dtype=torch.int64)


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys [1, heads, S, key width] and values [1, heads, S, value width]; S grows by
    doubling."""

    is_sliding = False

    def __init__(self, rows: _Rows) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows = rows
        self.keys: torch.Tensor
        self.values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the rows' keys and values [1, heads, R, width]; return views of the first W slots'."""
        width = self._rows.width
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if width > self.keys.shape[2]:
            slots = min(max(width, 2 * self.keys.shape[2]), max(width, self._rows.capacity))
            self.keys, self.values = _grown(self.keys, slots), _grown(self.values, slots)
        self.keys.index_copy_(2, self._rows.slots, key_states)
        self.values.index_copy_(2, self._rows.slots, value_states)
        return self.keys[:, :, :width], self.values[:, :, :width]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Zeros, not whatever the memory held: a masked slot must hold finite numbers."""
        slots = max(min(FIRST_SLOTS, self._rows.capacity), self._rows.width)
        batch, heads = key_states.shape[:2]
        self.keys = key_states.new_zeros(batch, heads, slots, key_states.shape[3])
        self.values = value_states.new_zeros(batch, heads, slots, value_states.shape[3])
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._rows.width, 0

    def get_seq_length(self) -> int:
        return self._rows.width

    def get_max_length(self) -> int:
        return self._rows.capacity


class TargetCache(Cache):
    """One session's keys and values in all layers. capacity: slots it may grow to."""

    def __init__(self, layers: int, capacity: int) -> None:
        self._rows = _Rows(capacity)
        self._slot_layers = [SlotLayer(self._rows) for _ in range(layers)]
        super().__init__(layers=[*self._slot_layers])

    @property
    def capacity(self) -> int:
        return self._rows.capacity

    @property
    def bytes(self) -> int:
        """Memory held now."""
        held = [layer for layer in self._slot_layers if layer.is_initialized]
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in held)

    def place(self, slots: torch.Tensor, width: int) -> None:
        """The next forward's rows go to `slots` int64 [R]; its attention sees the first `width` slots."""
        self._rows.slots = slots
        self._rows.width = width


def _grown(memory: torch.Tensor, slots: int) -> torch.Tensor:
    batch, heads, used, width = memory.shape
    grown = memory.new_zeros(batch, heads, slots, width)
    grown[:, :, :used] = memory
    return grown
