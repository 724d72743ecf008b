"""Several levels of the draft tree in one run of ONNX Runtime: the graph of levels_graph.py, over the same cache.

For devices on which starting a run is dear. The weights are in memory twice, once for each graph, and ONNX Runtime
packs a copy of them for each level.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.slots import Piece
from edgespec.engines.levels import Levels
from edgespec.tensorrt_engines.onnx_binding import Binding, KeptBindings

Shape = tuple[int, int]
"""R rows, W slots of the bucket."""


class OnnxLevels:
    """`levels` levels of `branches` rows a run (a `LevelRuns`). cache: the engine's, which the runs read and write."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        cache: NDArray[Any],
        calibration: Calibration,
        levels: int,
        branches: int,
        buckets: list[int],
    ) -> None:
        self.levels = levels
        self.branches = branches
        self._session = session
        self._cache = cache
        self._calibration = calibration
        self._buckets = buckets
        self._choices = session.get_outputs()[0].shape[-1]
        shapes = {value.name: value.shape for value in session.get_inputs()}
        self._chooses_by_probability = "knots" in shapes
        self._no_noise = np.zeros((levels, shapes["noise"][1]), dtype=np.float32)
        self._bindings: KeptBindings[Shape, _LevelsBinding] = KeptBindings()

    def run(
        self,
        piece: Piece,
        slots: NDArray[np.int32],
        noise: NDArray[np.float32] | None,
        temperature: float,
        row: int,
    ) -> Levels:
        """See `LevelRuns.run`."""
        rows, width = piece.cached.shape
        bucket = self._buckets[bisect_left(self._buckets, width)]
        binding = self._bindings.of((rows, bucket), self._bind)
        binding.tokens[:] = piece.tokens
        binding.positions[:] = piece.positions
        binding.cached[:, :width] = piece.cached
        binding.cached[:, width:] = False
        binding.among[:] = piece.among
        binding.decide[:] = row
        binding.inverse_temperature[...] = 1.0 if noise is None else 1.0 / temperature
        noise = self._no_noise if noise is None else np.ascontiguousarray(noise, dtype=np.float32)
        binding.input("noise", noise)
        if self._chooses_by_probability:
            knots, probabilities = self._calibration.curves_of(temperature, self._choices)
            binding.input("knots", knots)
            binding.input("probabilities", probabilities)
        self._session.run_with_iobinding(binding.bound)
        self._cache[:, np.concatenate([piece.slots, slots])] = binding.rows
        found = (binding.best, binding.scores, binding.kept, binding.parents)
        return Levels(*(part.copy() for part in found))

    def _bind(self, shape: Shape) -> _LevelsBinding:
        bound = self._session.io_binding()
        return _LevelsBinding(bound, shape, self._cache, self.levels, self.branches, self._choices)


class _LevelsBinding(Binding):
    """The buffers of one shape (shapes: levels_graph.py); noise and curves are bound for each run."""

    def __init__(
        self, bound: Any, shape: Shape, cache: NDArray[Any], levels: int, branches: int, choices: int
    ) -> None:
        super().__init__(bound)
        rows, bucket = shape
        self.tokens = self.input("tokens", np.zeros(rows, dtype=np.int32))
        self.positions = self.input("positions", np.zeros(rows, dtype=np.int32))
        self.cached = self.input("cached", np.zeros((rows, bucket), dtype=np.bool_))
        self.among = self.input("among", np.zeros((rows, rows), dtype=np.bool_))
        self.decide = self.input("decide", np.zeros(1, dtype=np.int32))
        self.inverse_temperature = self.input("inverse_temperature", np.ones((), dtype=np.float32))
        for index, part in enumerate(cache):
            self.input(f"cache_{index}", part[:bucket])
        self.best = self.output("best", np.zeros((levels, branches, choices), dtype=np.int32))
        self.scores = self.output("scores", np.zeros((levels, branches, choices), dtype=np.float32))
        self.kept = self.output("tokens_kept", np.zeros((levels, branches), dtype=np.int32))
        self.parents = self.output("parents", np.zeros((levels, branches), dtype=np.int32))
        made = rows + (levels - 1) * branches
        self.rows = self.output("rows", np.zeros((len(cache), made, *cache.shape[2:]), dtype=cache.dtype))
