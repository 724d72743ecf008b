"""Where the tensors of a TensorRT plan lie: the cache, a run's inputs and outputs, and their staging places.

Every run uses the same places, cut up by its shape: runs come one after the other, and a captured graph keeps the
addresses that it was captured with.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.engines.manifest import EngineManifest
from edgespec.tensorrt_engines.device_memory import ALIGNMENT, DeviceMemory, Lines
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, PREFILL_ROWS

Bindings = dict[str, "tuple[tuple[int, ...] | None, int]"]
"""By tensor: the shape of an input (None for an output), and the address."""


@dataclass(frozen=True)
class Shape:
    """R rows, D deciding rows, P rows of noise (0: none), W slots of the bucket."""

    rows: int
    deciding: int
    noises: int
    bucket: int


class Buffers:
    """On the GPU, and in this machine's memory what goes up and comes down. element_size: bytes of the cache's type."""

    def __init__(self, manifest: EngineManifest, element_size: int, memory: DeviceMemory) -> None:
        self._memory = memory
        self._vocabulary_size = manifest.vocabulary_size
        self._choices = manifest.choices
        self._parts = 2 * manifest.layers
        self._heads = (manifest.kv_heads, manifest.head_dim)
        self._line = manifest.kv_heads * manifest.head_dim * element_size
        self._pitch = _aligned(manifest.capacity * self._line)
        self._layouts: dict[Shape, dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]] = {}

        largest = Shape(PREFILL_ROWS, DECIDING_ROWS, DECIDING_ROWS, manifest.capacity)
        self.cache = memory.allocate(self._parts * self._pitch)
        self._new_rows = memory.allocate(self._parts * PREFILL_ROWS * self._line)
        self._no_noise = memory.allocate(4 * self._vocabulary_size)
        self._input = memory.allocate(self._size(largest))
        self._staged = memory.pinned(self._size(largest))
        choices = 2 * _aligned(4 * DECIDING_ROWS * self._choices)
        self._output = memory.allocate(choices)
        self._received = memory.pinned(choices)

    def inputs(self, shape: Shape) -> dict[str, NDArray[Any]]:
        """The staging place of each input of a run, to be written before `upload`."""
        return {
            name: self._staged[offset : offset + _bytes(dimensions, kind)].view(kind).reshape(dimensions)
            for name, (offset, dimensions, kind) in self._layout(shape).items()
        }

    def bindings(self, shape: Shape) -> Bindings:
        """By tensor: the shape of an input (None for an output), and the address."""
        found: Bindings = {
            name: (dimensions, self._input.address + offset)
            for name, (offset, dimensions, _) in self._layout(shape).items()
        }
        if not shape.noises:
            found["noise"] = (1, self._vocabulary_size), self._no_noise.address
        for part in range(self._parts):
            found[f"cache_{part}"] = (shape.bucket, *self._heads), self.cache.address + part * self._pitch
        found["best"] = None, self._output.address
        found["scores"] = None, self._output.address + self._scores_offset(shape)
        found["rows"] = None, self._new_rows.address
        return found

    def upload(self, shape: Shape) -> None:
        self._memory.upload(self._input, self._staged[: self._size(shape)])

    def place(self, slots: NDArray[np.int32]) -> None:
        """Copy the new rows into their slots: one copy for each stretch of neighbouring slots, all layers in it."""
        source_pitch = len(slots) * self._line
        ends = [0, *(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), len(slots)]
        for start, end in pairwise(ends):
            target = Lines(self.cache, int(slots[start]) * self._line, self._pitch)
            source = Lines(self._new_rows, start * self._line, source_pitch)
            self._memory.copy_lines(target, source, (end - start) * self._line, self._parts)

    def download(self, shape: Shape) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Wait for the run; its best tokens and scores [D, K], valid until the next run."""
        offset, size = self._scores_offset(shape), 4 * shape.deciding * self._choices
        self._memory.download(self._received[: offset + size], self._output)
        self._memory.synchronize()
        best = self._received[:size].view(np.int32).reshape(shape.deciding, self._choices)
        scores = self._received[offset : offset + size].view(np.float32).reshape(best.shape)
        return best, scores

    def _scores_offset(self, shape: Shape) -> int:
        return _aligned(4 * shape.deciding * self._choices)

    def _layout(self, shape: Shape) -> dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]:
        """Where in the place for inputs each one of this shape lies."""
        if shape not in self._layouts:
            rows, deciding = shape.rows, shape.deciding
            dimensions: dict[str, tuple[tuple[int, ...], type]] = {
                "tokens": ((rows,), np.int32),
                "positions": ((rows,), np.int32),
                "cached": ((rows, shape.bucket), np.bool_),
                "among": ((rows, rows), np.bool_),
                "decide": ((deciding,), np.int32),
                "noise_rows": ((deciding,), np.int32),
                "inverse_temperature": ((), np.float32),
            }
            if shape.noises:
                dimensions["noise"] = (shape.noises, self._vocabulary_size), np.float32
            layout, offset = {}, 0
            for name, (size, kind) in dimensions.items():
                layout[name] = offset, size, np.dtype(kind)
                offset += _aligned(_bytes(size, np.dtype(kind)))
            self._layouts[shape] = layout
        return self._layouts[shape]

    def _size(self, shape: Shape) -> int:
        offset, dimensions, kind = list(self._layout(shape).values())[-1]
        return offset + _aligned(_bytes(dimensions, kind))


def _bytes(dimensions: tuple[int, ...], kind: np.dtype[Any]) -> int:
    return int(np.prod(dimensions, dtype=np.int64)) * kind.itemsize


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
