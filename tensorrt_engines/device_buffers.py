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

from edgespec.tensorrt_engines.device_memory import Buffer, DeviceMemory, HostBytes, Lines, aligned
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
class Staged:
    """Tensors one behind the other: in host memory, and by name the address on the GPU. size: bytes of all."""

    host: dict[str, NDArray[Any]]
    addresses: dict[str, int]
    size: int

    @classmethod
    def of(cls, sizes: Sizes, host: HostBytes, device: Buffer) -> Staged:
        views: dict[str, NDArray[Any]] = {}
        addresses, offset = {}, 0
        for name, (shape, kind) in sizes.items():
            end = offset + _bytes(shape, kind)
            views[name] = host[offset:end].view(kind).reshape(shape)
            addresses[name] = device.address + offset
            offset = aligned(end)
        return cls(views, addresses, offset)


@dataclass(frozen=True)
class Run:
    """The tensors of one shape. inputs: written before `RunBuffers.upload`, with `noise` only where the shape has
    noise. outputs: `best` and `scores` [D, K], valid from `RunBuffers.download` to the next run. bindings: of every
    tensor of the plan."""

    inputs: Staged
    outputs: Staged
    bindings: Bindings


class RunBuffers:
    """All that a run of a plan reads and writes, the cache included; `of` cuts it up for a shape."""

    def __init__(self, draft: DraftShape, cache: DeviceCache, memory: DeviceMemory) -> None:
        self._draft = draft
        self._cache = cache
        self._memory = memory
        self.of = functools.cache(self._cut)
        largest = RunShape(PREFILL_ROWS, DECIDING_ROWS, DECIDING_ROWS, draft.capacity)
        self.new_rows = cache.allocate_rows(PREFILL_ROWS)
        self._no_noise = memory.allocate(4 * draft.vocabulary_size)
        input_bytes, output_bytes = (_total(sizes) for sizes in self._sizes(largest))
        self._input, self._staged_input = memory.allocate(input_bytes), memory.pinned(input_bytes)
        self._output, self._staged_output = memory.allocate(output_bytes), memory.pinned(output_bytes)

    def upload(self, run: Run) -> None:
        self._memory.upload(self._input, self._staged_input[: run.inputs.size])

    def download(self, run: Run) -> None:
        """Wait for the run."""
        self._memory.download(self._staged_output[: run.outputs.size], self._output)
        self._memory.synchronize()

    def _cut(self, shape: RunShape) -> Run:
        input_sizes, output_sizes = self._sizes(shape)
        inputs = Staged.of(input_sizes, self._staged_input, self._input)
        outputs = Staged.of(output_sizes, self._staged_output, self._output)
        bindings = self._cache.bindings(shape.bucket)
        bindings["noise"] = (1, self._draft.vocabulary_size), self._no_noise.address
        bindings |= {name: (input_sizes[name][0], address) for name, address in inputs.addresses.items()}
        bindings |= {name: (None, address) for name, address in outputs.addresses.items()}
        bindings["rows"] = None, self.new_rows.address
        return Run(inputs, outputs, bindings)

    def _sizes(self, shape: RunShape) -> tuple[Sizes, Sizes]:
        inputs = self._draft.inputs(shape)
        if shape.noises:
            inputs["noise"] = (shape.noises, self._draft.vocabulary_size), np.float32
        found = (shape.deciding, self._draft.choices)
        return inputs, {"best": (found, np.int32), "scores": (found, np.float32)}


def _bytes(shape: tuple[int, ...], kind: type) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize


def _total(sizes: Sizes) -> int:
    return sum(aligned(_bytes(*size)) for size in sizes.values())
