"""The draft's cache on the GPU, keys and values of all slots, and the places that every run's tensors share.

Runs come one after the other, so all use the same places, cut up by their shape; a captured graph keeps the addresses
that it was captured with.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.engines.manifest import EngineManifest
from edgespec.tensorrt_engines.device_memory import ALIGNMENT, Buffer, DeviceMemory, Lines

Bindings = dict[str, "tuple[tuple[int, ...] | None, int]"]
"""By tensor: the shape of an input (None for an output), and the address."""

Dimensions = dict[str, "tuple[tuple[int, ...], type]"]
"""By tensor: its shape and type."""


class Cache:
    """Keys and values, [2 * layers, capacity, kv_heads, head_dim]. element_size: bytes of one."""

    def __init__(self, manifest: EngineManifest, element_size: int, memory: DeviceMemory) -> None:
        self._memory = memory
        self._parts = 2 * manifest.layers
        self._heads = (manifest.kv_heads, manifest.head_dim)
        self._line = manifest.kv_heads * manifest.head_dim * element_size
        self._pitch = aligned(manifest.capacity * self._line)
        self._buffer = memory.allocate(self._parts * self._pitch)

    def allocate_rows(self, rows: int) -> Buffer:
        """A place for the keys and values of so many new rows."""
        return self._memory.allocate(self._parts * rows * self._line)

    def bindings(self, slots: int) -> Bindings:
        """The cache up to so many slots, as a plan's inputs."""
        shape, start = (slots, *self._heads), self._buffer.address
        return {f"cache_{part}": (shape, start + part * self._pitch) for part in range(self._parts)}

    def place(self, rows: Buffer, slots: NDArray[np.int32]) -> None:
        """Copy new rows into their slots: one copy for each stretch of neighbouring slots, all layers in it."""
        source_pitch = len(slots) * self._line
        ends = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
        for start, end in pairwise(ends):
            target = Lines(self._buffer, int(slots[start]) * self._line, self._pitch)
            source = Lines(rows, start * self._line, source_pitch)
            self._memory.copy_lines(target, source, (end - start) * self._line, self._parts)

    def clear(self) -> None:
        self._memory.clear(self._buffer)


@dataclass(frozen=True)
class Layout:
    """Tensors one behind the other. places: by tensor, where it begins, its shape and type; size: of all, in bytes."""

    places: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]
    size: int

    @classmethod
    def of(cls, dimensions: Dimensions) -> Layout:
        places, offset = {}, 0
        for name, (shape, kind) in dimensions.items():
            places[name] = offset, shape, np.dtype(kind)
            offset += aligned(_bytes(shape, np.dtype(kind)))
        return cls(places, offset)


class Place:
    """Bytes on the GPU, and as many in this machine's memory that go up to them or come down from them."""

    def __init__(self, size: int, memory: DeviceMemory) -> None:
        self._memory = memory
        self._device = memory.allocate(size)
        self._host = memory.pinned(size)

    def address(self, layout: Layout, name: str) -> int:
        return self._device.address + layout.places[name][0]

    def views(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Each tensor in this machine's memory; valid until the next run."""
        return {
            name: self._host[offset : offset + _bytes(shape, kind)].view(kind).reshape(shape)
            for name, (offset, shape, kind) in layout.places.items()
        }

    def upload(self, layout: Layout) -> None:
        self._memory.upload(self._device, self._host[: layout.size])

    def download(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Wait for the run, and return what it found: as `views`."""
        self._memory.download(self._host[: layout.size], self._device)
        self._memory.synchronize()
        return self.views(layout)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _bytes(shape: tuple[int, ...], kind: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * kind.itemsize
