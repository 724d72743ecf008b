"""Several levels of the draft tree in one launch: the plan of levels_graph.py's graph, over the engine's own cache.

Where starting a run costs more than a level, this is what pays. It is tested on a stand-in for TensorRT and has not
run on a GPU.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.slots import Piece
from edgespec.engines.levels import Levels
from edgespec.engines.manifest import EngineManifest
from edgespec.tensorrt_engines.buckets import buckets
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.plan import LEAST_KNOTS, MOST_KNOTS, PREFILL_ROWS
from edgespec.tensorrt_engines.tensorrt_cache import Bindings, Cache, Dimensions, Layout, Place
from edgespec.tensorrt_engines.tensorrt_contexts import Contexts


@dataclass(frozen=True)
class LevelsShape:
    """R rows, W slots of the bucket, J knots of the calibration's curves."""

    rows: int
    bucket: int
    knots: int


class TensorRTLevels:
    """A `LevelRuns`. cache: the engine's. before: runs the rows of a piece that are too many for one launch."""

    def __init__(
        self,
        manifest: EngineManifest,
        calibration: Calibration,
        contexts: Contexts,
        cache: Cache,
        memory: DeviceMemory,
        before: Callable[[Piece], Piece],
    ) -> None:
        self.levels = manifest.levels
        self.branches = manifest.level_branches
        self._calibration = calibration
        self._contexts = contexts
        self._cache = cache
        self._memory = memory
        self._before = before
        self._vocabulary_size = manifest.vocabulary_size
        self._choices = manifest.choices
        self._buckets = buckets(manifest.capacity)
        self._inputs = functools.cache(self._inputs_of)
        self._outputs = Layout.of(
            {
                "best": ((self.levels, self.branches, self._choices), np.int32),
                "scores": ((self.levels, self.branches, self._choices), np.float32),
                "tokens_kept": ((self.levels, self.branches), np.int32),
                "parents": ((self.levels, self.branches), np.int32),
            }
        )
        most = LevelsShape(PREFILL_ROWS, manifest.capacity, MOST_KNOTS)
        with memory.active():
            self._new_rows = cache.allocate_rows(PREFILL_ROWS + (self.levels - 1) * self.branches)
            self._input = Place(self._inputs(most).size, memory)
            self._output = Place(self._outputs.size, memory)

    def run(
        self,
        piece: Piece,
        slots: NDArray[np.int32],
        noise: NDArray[np.float32] | None,
        temperature: float,
        row: int,
    ) -> Levels:
        """See `LevelRuns.run`; `row` is among the piece's last PREFILL_ROWS."""
        own = self._before(piece)
        row -= len(piece) - len(own)
        knots, probabilities = self._curves(temperature)
        rows, width = own.cached.shape
        shape = LevelsShape(rows, self._buckets[bisect_left(self._buckets, width)], knots.shape[1])
        inputs = self._input.views(self._inputs(shape))
        inputs["tokens"][:] = own.tokens
        inputs["positions"][:] = own.positions
        inputs["cached"][:, :width] = own.cached
        inputs["cached"][:, width:] = False
        inputs["among"][:] = own.among
        inputs["decide"][:] = row
        inputs["inverse_temperature"][...] = 1.0 if noise is None else 1.0 / temperature
        inputs["noise"][:] = 0.0 if noise is None else noise
        if self.branches > 1:
            inputs["knots"][:], inputs["probabilities"][:] = knots, probabilities
        with self._memory.active():
            self._input.upload(self._inputs(shape))
            self._contexts.launch(shape, self._bindings(shape))
            self._cache.place(self._new_rows, np.concatenate([own.slots, slots]))
            found = self._output.download(self._outputs)
        return Levels(*(found[name].copy() for name in ("best", "scores", "tokens_kept", "parents")))

    def _curves(self, temperature: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Float32 [K, J], J within what the plan takes; one that chooses no rows by chance takes none of them."""
        if self.branches == 1:
            empty = np.zeros((self._choices, 0), dtype=np.float32)
            return empty, empty
        knots, probabilities = self._calibration.curves_of(temperature, self._choices)
        missing = ((0, 0), (0, max(0, LEAST_KNOTS - knots.shape[1])))
        return np.pad(knots, missing, mode="edge"), np.pad(probabilities, missing, mode="edge")

    def _bindings(self, shape: LevelsShape) -> Bindings:
        layout = self._inputs(shape)
        found = self._cache.bindings(shape.bucket)
        for name, (_, dimensions, _) in layout.places.items():
            found[name] = dimensions, self._input.address(layout, name)
        for name in self._outputs.places:
            found[name] = None, self._output.address(self._outputs, name)
        found["rows"] = None, self._new_rows.address
        return found

    def _inputs_of(self, shape: LevelsShape) -> Layout:
        rows = shape.rows
        dimensions: Dimensions = {
            "tokens": ((rows,), np.int32),
            "positions": ((rows,), np.int32),
            "cached": ((rows, shape.bucket), np.bool_),
            "among": ((rows, rows), np.bool_),
            "decide": ((1,), np.int32),
            "noise": ((self.levels, self._vocabulary_size), np.float32),
            "inverse_temperature": ((), np.float32),
        }
        if self.branches > 1:
            curve = ((self._choices, shape.knots), np.float32)
            dimensions |= {"knots": curve, "probabilities": curve}
        return Layout.of(dimensions)
