"""The draft's cache on the GPU: the keys and values of all slots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgespec.tensorrt_engines.device_memory import Buffer, DeviceMemory, Lines, aligned
from edgespec.tensorrt_engines.draft_shape import DraftShape

Bindings = dict[str, "tuple[tuple[int, ...] | None, int]"]
"""By tensor: the shape of an input (None for an output), and the address."""


class DeviceCache:
    """Keys and values, [2 * layers, capacity, kv_heads, head_dim]. element_size: bytes of one element."""

    def __init__(self, shape: DraftShape, element_size: int, memory: DeviceMemory) -> None:
        self._memory = memory
        self._parts = 2 * shape.layers
        self._heads = (shape.kv_heads, shape.head_dim)
        self._line = shape.kv_heads * shape.head_dim * element_size
        self._pitch = aligned(shape.capacity * self._line)
        self._buffer = memory.allocate(self._parts * self._pitch)

    def allocate_rows(self, rows: int) -> Buffer:
        """Room for the keys and values of `rows` new rows."""
        return self._memory.allocate(self._parts * rows * self._line)

    def bindings(self, slots: int) -> Bindings:
        """The first `slots` slots as a plan's inputs."""
        shape, start = (slots, *self._heads), self._buffer.address
        return {f"cache_{part}": (shape, start + part * self._pitch) for part in range(self._parts)}

    def place(self, rows: Buffer, slots: NDArray[np.int32]) -> None:
        """Copy new rows into their slots: one copy per stretch of neighbouring slots, all layers in it."""
        source_pitch = len(slots) * self._line
        ends = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
        for start, end in pairwise(ends):
            target = Lines(self._buffer, int(slots[start]) * self._line, self._pitch)
            source = Lines(rows, start * self._line, source_pitch)
            self._memory.copy_lines(target, source, (end - start) * self._line, self._parts)

    def clear(self) -> None:
        self._memory.clear(self._buffer)
