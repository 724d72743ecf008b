"""Several levels of the draft tree in one run of ONNX Runtime: the graph of levels_graph.py, over the same cache.

For devices on which starting a run is dear. The weights are in memory twice, once for each graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgespec.edge.levels import Levels
from edgespec.speculation.calibration import Calibration
from edgespec.speculation.slots import Piece


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
        self._names = {value.name for value in session.get_inputs()}
        vocabulary = next(value for value in session.get_inputs() if value.name == "noise").shape[1]
        self._no_noise = np.zeros((levels, vocabulary), dtype=np.float32)

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
        bucket = next(one for one in self._buckets if one >= width)
        cached = np.zeros((rows, bucket), dtype=np.bool_)
        cached[:, :width] = piece.cached
        knots, chances = self._calibration.curves_of(temperature, self._choices)
        inputs: dict[str, NDArray[Any]] = {
            "tokens": piece.tokens,
            "positions": piece.positions,
            "cached": cached,
            "among": piece.among,
            "decide": np.array([row], dtype=np.int32),
            "noise": self._no_noise if noise is None else np.ascontiguousarray(noise, dtype=np.float32),
            "inverse_temperature": np.array(
                1.0 / temperature if noise is not None else 1.0, dtype=np.float32
            ),
            "knots": knots,
            "chances": chances,
        }
        bound = self._session.io_binding()
        for name, array in inputs.items():
            if name in self._names:
                _bind(bound, name, np.ascontiguousarray(array))
        for index, part in enumerate(self._cache):
            _bind(bound, f"cache_{index}", part[:bucket])
        for output in self._session.get_outputs():
            bound.bind_output(output.name, "cpu")
        self._session.run_with_iobinding(bound)
        best, scores, tokens, parents, made = bound.copy_outputs_to_cpu()
        self._cache[:, np.concatenate([piece.slots, slots])] = made
        return Levels(best, scores, tokens, parents)


def _bind(bound: Any, name: str, array: NDArray[Any]) -> None:
    bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
