"""The TensorRT and TensorRT-RTX runtime: runs a draft's plan on the GPU, one launch a piece.

A run's inputs go up in one copy, and its choices come down in one. The plan returns the new rows' keys and values and
never touches the cache: they stay on the GPU and are copied into their slots there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.tensorrt_engines.contexts import Contexts
from edgespec.tensorrt_engines.device_buffers import DeviceCache, RunBuffers
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.draft_shape import DraftShape, RunShape, fill_inputs
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, PREFILL_ROWS
from edgespec.tensorrt_engines.tensorrt_api import ErrorLog


class TensorRTRunner:
    """A `Runner`. api: `tensorrt` or `tensorrt_rtx`. build_command: what builds the plan, for the error.

    Raises EdgespecError where TensorRT cannot open the plan.
    """

    def __init__(
        self, plan: bytes, draft: DraftShape, api: Any, memory: DeviceMemory, build_command: str
    ) -> None:
        self._draft = draft
        self._api = api
        self._memory = memory
        self._log = ErrorLog(api)
        with memory.active():
            self._runtime = api.Runtime(self._log.logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise EdgespecError(
                    f"the plan cannot be opened ({self._log.first()}): build it again with `{build_command}`."
                )
            self._begin()

    def twin(self) -> TensorRTRunner:
        other = copy.copy(self)
        with self._memory.active():
            other._begin()
        return other

    def _begin(self) -> None:
        """An empty cache of its own, and what runs the plan on it."""
        self._contexts = Contexts(self._api, self._engine, self._memory)
        element = np.dtype(self._api.nptype(self._engine.get_tensor_dtype("cache_0")))
        self._cache = DeviceCache(self._draft, int(element.itemsize), self._memory)
        self._buffers = RunBuffers(self._draft, self._cache, self._memory)

    def reset(self) -> None:
        with self._memory.active():
            self._cache.clear()

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        deciding = np.arange(len(piece), dtype=np.int32) if decide is None else decide
        which = np.zeros(len(piece), dtype=np.int32) if noise_rows is None else noise_rows
        with self._memory.active():
            if len(piece) <= PREFILL_ROWS and len(deciding) <= min(DECIDING_ROWS, len(piece)):
                return self._launch(piece, noise, which[deciding], inverse_temperature, deciding)
            wanted, order = np.unique(deciding, return_inverse=True)
            results = []
            for start, part in _parts(piece, wanted):
                mine = wanted[(wanted >= start) & (wanted < start + len(part))]
                used, own_rows = np.unique(which[mine], return_inverse=True)
                own_noise = None if noise is None else noise[used]
                results.append(self._launch(part, own_noise, own_rows, inverse_temperature, mine - start))
        best, scores = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return best[order], scores[order]

    def _launch(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[Any],
        inverse_temperature: float,
        decide: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """One launch. noise_rows: int [D], one per deciding row. A plan decides behind one row at least."""
        rows, width = piece.cached.shape
        count = len(decide)
        if not count:
            noise, decide = None, np.zeros(1, dtype=np.int32)
        noises = 0 if noise is None else len(noise)
        shape = RunShape(rows, len(decide), noises, self._draft.bucket(width))
        run = self._buffers.of(shape)
        inputs = run.inputs.host
        fill_inputs(inputs, piece, decide, inverse_temperature)
        inputs["noise_rows"][:] = 0 if noise is None else noise_rows
        if noise is not None:
            inputs["noise"][:] = noise
        self._buffers.upload(run)
        self._contexts.launch(shape, run.bindings)
        self._cache.place(self._buffers.new_rows, piece.slots)
        self._buffers.download(run)
        best, scores = (run.outputs.host[name][:count].copy() for name in ("best", "scores"))
        return best, scores


def _parts(piece: Piece, wanted: NDArray[np.int32]) -> Iterator[tuple[int, Piece]]:
    """The piece cut into pieces that one launch takes, each with its first row; earlier parts count as cached."""
    length = PREFILL_ROWS if len(wanted) <= DECIDING_ROWS else DECIDING_ROWS
    for start in range(0, len(piece), length):
        rows = slice(start, min(start + length, len(piece)))
        cached = piece.cached[rows].copy()
        cached[:, piece.slots[:start]] |= piece.among[rows, :start]
        tokens, positions, slots = piece.tokens[rows], piece.positions[rows], piece.slots[rows]
        among, seen = piece.among[rows, rows], None if piece.seen is None else piece.seen[rows]
        yield start, Piece(tokens, positions, slots, cached, among, piece.slot_positions, seen)
