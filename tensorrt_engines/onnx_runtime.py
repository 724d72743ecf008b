"""The ONNX Runtime runtime: runs a draft engine on the CPU, one call a piece.

Inputs and outputs live in numpy buffers that are bound once per shape; the cache is one numpy array that the
graph reads where it lies, and the new rows are put into their slots after the run. Attention reads a bucket
of the cache, the smallest of a few widths that covers the slots in use.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.engines.manifest import GRAPH_FILE, TOKENIZER_FILE, EngineManifest
from edgespec.engines.model_source import first_line
from edgespec.tensorrt_engines.buckets import buckets
from edgespec.tensorrt_engines.onnx_binding import Binding, KeptBindings

LOG_ERRORS = 3

Shape = tuple[int, int, int, int]
"""R rows, D deciding rows, P rows of noise (0: none), W slots of the bucket."""


class OnnxRuntimeEngine:
    """A `DraftEngine`. threads: cores that one run may use. Raises EdgespecError."""

    def __init__(
        self, folder: Path, manifest: EngineManifest, calibration: Calibration, threads: int = 1
    ) -> None:
        self.manifest = manifest
        self.calibration = calibration
        self.capacity = manifest.capacity
        self.choices = manifest.choices
        self.vocabulary_size = manifest.vocabulary_size
        self.vocabulary_hash = bytes.fromhex(manifest.vocabulary_hash)
        self.tokenizer_path = folder / TOKENIZER_FILE
        self._session = _open(folder, manifest, threads)
        self._buckets = buckets(self.capacity)
        shape = (2 * manifest.layers, self.capacity, manifest.kv_heads, manifest.head_dim)
        self._cache: NDArray[Any] = np.zeros(shape, dtype=_cache_type(self._session))
        self._no_noise = np.zeros((1, self.vocabulary_size), dtype=np.float32)
        self._touched = 0
        self._bindings: KeptBindings[Shape, _EngineBinding] = KeptBindings()

    def reset(self) -> None:
        """Forget the cache."""
        self._cache[:, : self._touched] = 0.0
        self._touched = 0

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `DraftEngine.run`."""
        rows, width = piece.cached.shape
        deciding = rows if decide is None else len(decide)
        bucket = self._buckets[bisect_left(self._buckets, width)]
        shape = (rows, deciding, 0 if noise is None else len(noise), bucket)
        binding = self._bindings.of(shape, self._bind)

        binding.tokens[:] = piece.tokens
        binding.positions[:] = piece.positions
        binding.cached[:, :width] = piece.cached
        binding.cached[:, width:] = False
        binding.among[:] = piece.among
        binding.decide[:] = binding.all_rows if decide is None else decide
        binding.inverse_temperature[...] = inverse_temperature
        if noise is not None and noise_rows is not None:
            noise = np.ascontiguousarray(noise, dtype=np.float32)
            binding.noise_rows[:] = noise_rows if decide is None else noise_rows[decide]
            binding.bind_noise(noise)

        self._session.run_with_iobinding(binding.bound)
        self._cache[:, piece.slots] = binding.rows
        self._touched = max(self._touched, width)
        return binding.best.copy(), binding.scores.copy()

    def _bind(self, shape: Shape) -> _EngineBinding:
        return _EngineBinding(self._session.io_binding(), shape, self._cache, self._no_noise, self.choices)


class _EngineBinding(Binding):
    """The buffers of one shape, bound to the graph's inputs and outputs (shapes: draft_graph.py)."""

    def __init__(
        self,
        bound: Any,
        shape: Shape,
        cache: NDArray[Any],
        no_noise: NDArray[np.float32],
        choices: int,
    ) -> None:
        super().__init__(bound)
        rows, deciding, _, bucket = shape
        self.all_rows = np.arange(rows, dtype=np.int32)
        self.tokens = self.input("tokens", np.zeros(rows, dtype=np.int32))
        self.positions = self.input("positions", np.zeros(rows, dtype=np.int32))
        self.cached = self.input("cached", np.zeros((rows, bucket), dtype=np.bool_))
        self.among = self.input("among", np.zeros((rows, rows), dtype=np.bool_))
        self.decide = self.input("decide", np.zeros(deciding, dtype=np.int32))
        self.noise_rows = self.input("noise_rows", np.zeros(deciding, dtype=np.int32))
        self.inverse_temperature = self.input("inverse_temperature", np.ones((), dtype=np.float32))
        self.bind_noise(no_noise)
        for index, part in enumerate(cache):
            self.input(f"cache_{index}", part[:bucket])
        self.best = self.output("best", np.zeros((deciding, choices), dtype=np.int32))
        self.scores = self.output("scores", np.zeros((deciding, choices), dtype=np.float32))
        self.rows = self.output("rows", np.zeros((len(cache), rows, *cache.shape[2:]), dtype=cache.dtype))

    def bind_noise(self, noise: NDArray[np.float32]) -> None:
        """float32 [P, V], contiguous; it is read where it lies, and must live until the run is over."""
        self.input("noise", noise)


def _cache_type(session: onnxruntime.InferenceSession) -> type[np.float32] | type[np.float16]:
    """A graph made for a GPU may keep halves; ONNX Runtime runs it too."""
    types = {value.name: value.type for value in session.get_inputs()}
    return np.float16 if types["cache_0"] == "tensor(float16)" else np.float32


def _open(folder: Path, manifest: EngineManifest, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS
    # The draft shares its cores with the session's own loop and the link's thread.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(folder / GRAPH_FILE), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise EdgespecError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open the engine in {folder} "
            f"({first_line(error)}): build it again with `{manifest.rebuild_command(folder)}`."
        ) from None
