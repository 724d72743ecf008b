"""The ONNX Runtime runtime: runs a draft engine on the CPU, one call a piece.

Inputs and outputs are numpy buffers, bound once per shape, so that a run of a known shape allocates next to nothing.
The cache is one numpy array that the graph reads in place; the new rows are put into their slots after the run.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.memory import available_memory_bytes
from edgespec.core.slots import Piece
from edgespec.engines.manifest import GRAPH_FILE, VISION_FILE, EngineManifest
from edgespec.tensorrt_engines.draft_shape import DraftShape, RunShape, fill_inputs

LOG_ERRORS = 3

COPIES = 2
"""Of its weights that ONNX Runtime holds while it opens a graph."""

KEPT_SHAPES = 128
"""Shapes whose buffers are kept; the least recently used is dropped first."""


class OnnxRunner:
    """A `Runner`. threads: cores that one run may use. Raises EdgespecError."""

    def __init__(self, folder: Path, manifest: EngineManifest, threads: int = 1) -> None:
        _check_memory(folder, manifest)
        self._session = open_graph(GRAPH_FILE, folder, manifest, threads)
        self._draft = manifest
        self._no_noise = np.zeros((1, self._draft.vocabulary_size), dtype=np.float32)
        self._begin()

    def twin(self) -> OnnxRunner:
        other = copy.copy(self)
        other._begin()
        return other

    def _begin(self) -> None:
        """An empty cache of its own."""
        draft = self._draft
        shape = (2 * draft.layers, draft.capacity, draft.kv_heads, draft.head_dim)
        types = {value.name: value.type for value in self._session.get_inputs()}
        # A graph for a GPU may keep halves; ONNX Runtime runs it too.
        kind = np.float16 if types["cache_0"] == "tensor(float16)" else np.float32
        self._cache: NDArray[Any] = np.zeros(shape, dtype=kind)
        self._touched = 0
        self._bindings: OrderedDict[RunShape, Binding] = OrderedDict()

    def reset(self) -> None:
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
        rows, width = piece.cached.shape
        if decide is None:
            decide = np.arange(rows, dtype=np.int32)
        noises = 0 if noise is None else len(noise)
        binding = self._binding(RunShape(rows, len(decide), noises, self._draft.bucket(width)))
        fill_inputs(binding.inputs, piece, decide, inverse_temperature)
        if noise is not None and noise_rows is not None:
            noise = np.ascontiguousarray(noise, dtype=np.float32)
            binding.inputs["noise_rows"][:] = noise_rows[decide]
            binding.input("noise", noise)
        self._session.run_with_iobinding(binding.bound)
        self._cache[:, piece.slots] = binding.rows
        self._touched = max(self._touched, width)
        return binding.best.copy(), binding.scores.copy()

    def _binding(self, shape: RunShape) -> Binding:
        binding = self._bindings.get(shape)
        if binding is not None:
            self._bindings.move_to_end(shape)
            return binding
        bound = self._session.io_binding()
        binding = Binding(bound, self._draft, shape, self._cache, self._no_noise)
        self._bindings[shape] = binding
        if len(self._bindings) > KEPT_SHAPES:
            self._bindings.popitem(last=False)
        return binding


class Binding:
    """The buffers of one shape, bound to the graph's inputs and outputs (shapes: draft_graph.py)."""

    def __init__(
        self,
        bound: Any,
        draft: DraftShape,
        shape: RunShape,
        cache: NDArray[Any],
        no_noise: NDArray[np.float32],
    ) -> None:
        self.bound = bound
        self.inputs: dict[str, NDArray[Any]] = {}
        for name, (size, kind) in draft.inputs(shape).items():
            self.inputs[name] = np.zeros(size, dtype=kind)
            self.input(name, self.inputs[name])
        self.input("noise", no_noise)
        for index, part in enumerate(cache):
            self.input(f"cache_{index}", part[: shape.bucket])
        self.best = self._output("best", np.zeros((shape.deciding, draft.choices), dtype=np.int32))
        self.scores = self._output("scores", np.zeros((shape.deciding, draft.choices), dtype=np.float32))
        self.rows = self._output(
            "rows", np.zeros((len(cache), shape.rows, *cache.shape[2:]), dtype=cache.dtype)
        )

    def input(self, name: str, array: NDArray[Any]) -> None:
        """array: contiguous; it is read in place, and must live until the run is over."""
        self.bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def _output(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        self.bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return array


def open_graph(
    file: str, folder: Path, manifest: EngineManifest, threads: int
) -> onnxruntime.InferenceSession:
    """A graph of the engine in `folder`. Raises EdgespecError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS
    # The draft shares its cores with the session's own loop and the link's thread.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EdgespecError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open the engine in {folder} "
            f"({first_line(error)}): build it again with `{manifest.rebuild_command(folder)}`."
        ) from None


def _check_memory(folder: Path, manifest: EngineManifest) -> None:
    """Refuse what the kernel would end the process for."""
    draft = manifest
    graphs = [file for name in (GRAPH_FILE, VISION_FILE) for file in folder.glob(f"{name}*")]
    weights = sum(file.stat().st_size for file in graphs)
    cache = 2 * draft.layers * draft.capacity * draft.kv_heads * draft.head_dim * 4
    needed, left = COPIES * weights + cache, available_memory_bytes()
    if needed > left:
        raise EdgespecError(
            f"the engine in {folder} needs {needed / 2**20:.0f} MiB, and this device has {left / 2**20:.0f} MiB left: "
            "end other programs, or compile a smaller draft, with --precision int8 or a smaller --max-len."
        )
