"""What one level's run of a TensorRT plan takes and gives, and where: see tensorrt_cache.py for the places."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.engines.manifest import EngineManifest
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, PREFILL_ROWS
from edgespec.tensorrt_engines.tensorrt_cache import Bindings, Cache, Dimensions, Layout, Place


@dataclass(frozen=True)
class Shape:
    """R rows, D deciding rows, P rows of noise (0: none), W slots of the bucket."""

    rows: int
    deciding: int
    noises: int
    bucket: int


class Buffers:
    """On the GPU, and in this machine's memory what goes up and comes down."""

    def __init__(self, manifest: EngineManifest, cache: Cache, memory: DeviceMemory) -> None:
        self._vocabulary_size = manifest.vocabulary_size
        self._choices = manifest.choices
        self._cache = cache
        self._inputs = functools.cache(self._inputs_of)
        self._outputs = functools.cache(self._outputs_of)
        largest = Shape(PREFILL_ROWS, DECIDING_ROWS, DECIDING_ROWS, manifest.capacity)
        self.new_rows = cache.allocate_rows(PREFILL_ROWS)
        self._no_noise = memory.allocate(4 * self._vocabulary_size)
        self._input = Place(self._inputs(largest).size, memory)
        self._output = Place(self._outputs(largest).size, memory)

    def inputs(self, shape: Shape) -> dict[str, NDArray[Any]]:
        """The staging place of each input of a run, to be written before `upload`."""
        return self._input.views(self._inputs(shape))

    def bindings(self, shape: Shape) -> Bindings:
        """By tensor: the shape of an input (None for an output), and the address."""
        layout = self._inputs(shape)
        found = self._cache.bindings(shape.bucket)
        for name, (_, dimensions, _) in layout.places.items():
            found[name] = dimensions, self._input.address(layout, name)
        if not shape.noises:
            found["noise"] = (1, self._vocabulary_size), self._no_noise.address
        for name in (outputs := self._outputs(shape)).places:
            found[name] = None, self._output.address(outputs, name)
        found["rows"] = None, self.new_rows.address
        return found

    def upload(self, shape: Shape) -> None:
        self._input.upload(self._inputs(shape))

    def download(self, shape: Shape) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Wait for the run; its best tokens and scores [D, K], valid until the next run."""
        found = self._output.download(self._outputs(shape))
        return found["best"], found["scores"]

    def _inputs_of(self, shape: Shape) -> Layout:
        rows, deciding = shape.rows, shape.deciding
        dimensions: Dimensions = {
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
        return Layout.of(dimensions)

    def _outputs_of(self, shape: Shape) -> Layout:
        found = (shape.deciding, self._choices)
        return Layout.of({"best": (found, np.int32), "scores": (found, np.float32)})
