"""What a run reads and writes on the GPU: the draft's cache, and the inputs and outputs, staged in host memory.

Runs come one after the other, so all use the same memory, cut up by their shape: a captured graph keeps the addresses
that it was captured with.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.tensorrt_engines.device_memory import Buffer, DeviceMemory, Lines, aligned
from edgespec.tensorrt_engines.draft_shape import DraftShape, RunShape, Sizes
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, PREFILL_ROWS

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


@dataclass(frozen=True)
class Layout:
    """Tensors one behind the other. tensors: by name, offset in bytes, shape and type. size: of all, in bytes."""

    tensors: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]
    size: int

    @classmethod
    def of(cls, sizes: Sizes) -> Layout:
        tensors, offset = {}, 0
        for name, (shape, kind) in sizes.items():
            tensors[name] = offset, shape, np.dtype(kind)
            offset += aligned(_bytes(shape, np.dtype(kind)))
        return cls(tensors, offset)


class Staging:
    """Memory on the GPU, and the same amount in host memory that is copied to it or from it."""

    def __init__(self, size: int, memory: DeviceMemory) -> None:
        self._memory = memory
        self._device = memory.allocate(size)
        self._host = memory.pinned(size)

    def addresses(self, layout: Layout) -> dict[str, int]:
        return {name: self._device.address + offset for name, (offset, _, _) in layout.tensors.items()}

    def views(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Each tensor in host memory; valid until the next run."""
        return {
            name: self._host[offset : offset + _bytes(shape, kind)].view(kind).reshape(shape)
            for name, (offset, shape, kind) in layout.tensors.items()
        }

    def upload(self, layout: Layout) -> None:
        self._memory.upload(self._device, self._host[: layout.size])

    def download(self, layout: Layout) -> dict[str, NDArray[Any]]:
        """Wait for the run, and return its outputs as `views` does."""
        self._memory.download(self._host[: layout.size], self._device)
        self._memory.synchronize()
        return self.views(layout)


class RunBuffers:
    """All that a run of a plan reads and writes, the cache included."""

    def __init__(self, draft: DraftShape, cache: DeviceCache, memory: DeviceMemory) -> None:
        self._draft = draft
        self._cache = cache
        self._inputs = functools.cache(self._inputs_of)
        self._outputs = functools.cache(self._outputs_of)
        largest = RunShape(PREFILL_ROWS, DECIDING_ROWS, DECIDING_ROWS, draft.capacity)
        self.new_rows = cache.allocate_rows(PREFILL_ROWS)
        self._no_noise = memory.allocate(4 * draft.vocabulary_size)
        self._input = Staging(self._inputs(largest).size, memory)
        self._output = Staging(self._outputs(largest).size, memory)

    def inputs(self, shape: RunShape) -> dict[str, NDArray[Any]]:
        """The inputs in host memory, to be written before `upload`; `noise` only where the shape has noise."""
        return self._input.views(self._inputs(shape))

    def bindings(self, shape: RunShape) -> Bindings:
        """Of every tensor of the plan."""
        layout, outputs = self._inputs(shape), self._outputs(shape)
        found = self._cache.bindings(shape.bucket)
        for name, address in self._input.addresses(layout).items():
            found[name] = layout.tensors[name][1], address
        if not shape.noises:
            found["noise"] = (1, self._draft.vocabulary_size), self._no_noise.address
        for name, address in self._output.addresses(outputs).items():
            found[name] = None, address
        found["rows"] = None, self.new_rows.address
        return found

    def upload(self, shape: RunShape) -> None:
        self._input.upload(self._inputs(shape))

    def download(self, shape: RunShape) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Wait for the run; its best tokens and scores [D, K], valid until the next run."""
        found = self._output.download(self._outputs(shape))
        return found["best"], found["scores"]

    def _inputs_of(self, shape: RunShape) -> Layout:
        sizes = shape.inputs
        if shape.noises:
            sizes["noise"] = (shape.noises, self._draft.vocabulary_size), np.float32
        return Layout.of(sizes)

    def _outputs_of(self, shape: RunShape) -> Layout:
        found = (shape.deciding, self._draft.choices)
        return Layout.of({"best": (found, np.int32), "scores": (found, np.float32)})


def _bytes(shape: tuple[int, ...], kind: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * kind.itemsize
