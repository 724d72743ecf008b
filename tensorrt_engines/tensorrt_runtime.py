"""The TensorRT and TensorRT-RTX runtime: runs a draft engine's plan on the GPU, one launch a piece.

A run's inputs go up in one copy, its choices come down in one; the new rows' keys and values stay on the GPU and are
copied into their slots there, for the plan returns them and never touches the cache. A shape that comes again and
again gets an execution context of its own and is captured in a CUDA graph (TensorRT-RTX captures by itself).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.engines.manifest import TOKENIZER_FILE, EngineManifest
from edgespec.tensorrt_engines.buckets import buckets
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, PREFILL_ROWS
from edgespec.tensorrt_engines.tensorrt_api import Complaints
from edgespec.tensorrt_engines.tensorrt_buffers import Buffers, Shape
from edgespec.tensorrt_engines.tensorrt_cache import Cache
from edgespec.tensorrt_engines.tensorrt_contexts import Contexts


class TensorRTEngine:
    """A `DraftEngine`. plan: the serialized plan. api: `tensorrt` or `tensorrt_rtx`. Raises EdgespecError."""

    def __init__(
        self,
        folder: Path,
        manifest: EngineManifest,
        calibration: Calibration,
        plan: bytes,
        api: Any,
        memory: DeviceMemory,
    ) -> None:
        self.manifest = manifest
        self.calibration = calibration
        self.capacity = manifest.capacity
        self.choices = manifest.choices
        self.vocabulary_size = manifest.vocabulary_size
        self.vocabulary_hash = bytes.fromhex(manifest.vocabulary_hash)
        self.tokenizer_path = folder / TOKENIZER_FILE
        self._memory = memory
        self._buckets = buckets(self.capacity)
        self._complaints = Complaints(api)
        with memory.active():
            self._runtime = api.Runtime(self._complaints.logger)
            engine = self._opened(plan, folder)
            self._contexts = Contexts(api, engine, memory)
            element = np.dtype(api.nptype(engine.get_tensor_dtype("cache_0")))
            self._cache = Cache(manifest, int(element.itemsize), memory)
            self._buffers = Buffers(manifest, self._cache, memory)

    def _opened(self, plan: bytes, folder: Path) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EdgespecError(
                f"the plan in {folder} cannot be opened ({self._complaints.first()}): "
                f"build it again with `{self.manifest.plan_command(folder, self.manifest.runtime)}`."
            )
        return engine

    def reset(self) -> None:
        """Forget the cache."""
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
        """See `DraftEngine.run`."""
        deciding = np.arange(len(piece), dtype=np.int32) if decide is None else decide
        which = np.zeros(len(piece), dtype=np.int32) if noise_rows is None else noise_rows
        with self._memory.active():
            if len(piece) <= PREFILL_ROWS and len(deciding) <= min(DECIDING_ROWS, len(piece)):
                return self._run(piece, noise, which[deciding], inverse_temperature, deciding)
            wanted, order = np.unique(deciding, return_inverse=True)
            results = []
            for start, part in _parts(piece, wanted):
                mine = wanted[(wanted >= start) & (wanted < start + len(part))]
                used, own_rows = np.unique(which[mine], return_inverse=True)
                own_noise = None if noise is None else noise[used]
                results.append(self._run(part, own_noise, own_rows, inverse_temperature, mine - start))
        best, scores = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return best[order], scores[order]

    def _run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[Any],
        inverse_temperature: float,
        decide: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """One launch. noise_rows: int [D], one a deciding row."""
        rows, width = piece.cached.shape
        bucket = self._buckets[bisect_left(self._buckets, width)]
        shape = Shape(rows, max(1, len(decide)), 0 if noise is None else len(noise), bucket)
        inputs = self._buffers.inputs(shape)
        inputs["tokens"][:] = piece.tokens
        inputs["positions"][:] = piece.positions
        inputs["cached"][:, :width] = piece.cached
        inputs["cached"][:, width:] = False
        inputs["among"][:] = piece.among
        inputs["decide"][:] = decide if len(decide) else 0
        inputs["noise_rows"][:] = noise_rows if noise is not None else 0
        inputs["inverse_temperature"][...] = inverse_temperature
        if noise is not None:
            inputs["noise"][:] = noise
        self._buffers.upload(shape)
        self._contexts.launch(shape, self._buffers.bindings(shape))
        self._cache.place(self._buffers.new_rows, piece.slots)
        best, scores = self._buffers.download(shape)
        return best[: len(decide)].copy(), scores[: len(decide)].copy()


def _parts(piece: Piece, wanted: NDArray[np.int32]) -> Iterator[tuple[int, Piece]]:
    """The piece cut into pieces that one run takes, in order, each with its first row; what was among it is cached."""
    length = PREFILL_ROWS if len(wanted) <= DECIDING_ROWS else DECIDING_ROWS
    for start in range(0, len(piece), length):
        rows = slice(start, min(start + length, len(piece)))
        cached = piece.cached[rows].copy()
        cached[:, piece.slots[:start]] |= piece.among[rows, :start]
        yield (
            start,
            Piece(
                piece.tokens[rows],
                piece.positions[rows],
                piece.slots[rows],
                cached,
                piece.among[rows, rows],
                piece.slot_positions,
            ),
        )
