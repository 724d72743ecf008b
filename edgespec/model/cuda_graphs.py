"""The target's forward as CUDA graphs: launched whole, where eager PyTorch launches some hundred kernels one by one.

One graph for each bucket of rows and of slots seen, captured when it is first needed; all share one memory pool, and
read their inputs where `StaticInputs` puts them. A batch beyond the buckets, or a model that cannot be captured, runs
eagerly. Nothing but `CudaCapture` knows CUDA: tests put a graph in its place that runs the function again.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.slots import Piece
from edgespec.model.batch import batch_of
from edgespec.model.kv_cache import TargetCache
from edgespec.model.masks import Windows
from edgespec.model.static_inputs import Bucket, ExitColumns, StaticInputs

log = logging.getLogger("edgespec.cuda_graphs")

ROWS = (1, 2, 4, 8, 16, 32, 64)
MOST_ROWS = ROWS[-1]

WIDTHS = (256, 512, 1024, 2048, 4096, 8192)
"""Slots that attention reads, of all sessions together: gathered, so that a session's pages may lie anywhere."""

WARM_UPS = 2
"""Runs before the capture, in which libraries choose their kernels and allocate their workspaces."""

HOST = torch.device("cpu")

SessionPiece = tuple[TargetCache, Piece, NDArray[np.integer[Any]]]
"""A session's cache, its rows, and which of them are decided."""

Run = Callable[[StaticInputs, frozenset[int]], torch.Tensor]
"""The forward on static inputs, publishing the exits after these layers: logits [R, V] of the selected rows."""


class Capture(Protocol):
    """Turns a function into one that does the same again, on the same memory, and what it returned."""

    def __call__(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]: ...


class CudaCapture:
    """Captures CUDA graphs that share one memory pool: what a graph returned is void once another runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):  # writes the same keys and values to the same slots
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Whatever other threads of the server do with CUDA meanwhile is not captured, and does not end the capture.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = function()
        return graph.replay, output


class GraphedForwards:
    """Forwards of one target by graphs. run: the forward; it may use nothing but its inputs, the weights and memory
    that stays where it is."""

    def __init__(
        self,
        run: Run,
        windows: Windows,
        dtype: torch.dtype,
        device: torch.device,
        capture: Capture,
        exits: int = 0,
    ) -> None:
        self._run = run
        self._windows = windows
        self._dtype = dtype
        self._device = device
        self._capture = capture
        self._exits = exits
        self._inputs: dict[Bucket, StaticInputs] = {}
        self._graphs: dict[tuple[Bucket, frozenset[int]], tuple[Callable[[], None], torch.Tensor]] = {}
        self.failed = False
        """A capture failed: nothing is captured from then on."""

    def fits(self, pieces: Sequence[SessionPiece]) -> bool:
        """Whether a bucket holds the rows of pieces (cache, piece, rows to decide)."""
        return any(len(decide) for _, _, decide in pieces) and _bucket(pieces) is not None

    def __call__(
        self,
        pieces: Sequence[SessionPiece],
        layers: frozenset[int] = frozenset(),
        exits: ExitColumns | None = None,
    ) -> torch.Tensor | None:
        """Logits [D, V] of the decided rows of pieces, valid until the next call; None where they must run eagerly.

        layers: those whose exits are read, with what these must know; if a capture failed, such forwards run on the
        static inputs nevertheless. Raises KvFull.
        """
        bucket = _bucket(pieces)
        decided = sum(len(decide) for _, _, decide in pieces)
        if bucket is None or not decided or (self.failed and not layers):
            return None
        batch = batch_of(pieces, self._windows, self._dtype, HOST, apart=False)
        if bucket not in self._inputs:
            self._inputs[bucket] = StaticInputs(bucket, self._windows, self._dtype, self._device, self._exits)
        inputs = self._inputs[bucket]
        inputs.fill(batch, exits)
        graph = self._graphs.get((bucket, layers)) or self._captured(inputs, layers)
        if graph is None:
            return self._run(inputs, layers)[:decided] if layers else None
        replay, logits = graph
        replay()
        return logits[:decided]

    def _captured(
        self, inputs: StaticInputs, layers: frozenset[int]
    ) -> tuple[Callable[[], None], torch.Tensor] | None:
        if self.failed:
            return None
        try:
            graph = self._capture(lambda: self._run(inputs, layers))
        except RuntimeError as error:  # what torch raises for all of CUDA's errors
            self.failed = True
            reason = str(error).strip().partition("\n")[0]
            log.warning("the target runs without CUDA graphs, because a capture failed: %s", reason)
            return None
        self._graphs[inputs.bucket, layers] = graph
        return graph


def _bucket(pieces: Sequence[SessionPiece]) -> Bucket | None:
    rows = sum(len(piece) for _, piece, _ in pieces)
    return bucket_of(rows, sum(piece.cached.shape[1] for _, piece, _ in pieces))


def bucket_of(rows: int, width: int) -> Bucket | None:
    """The smallest bucket that holds so many rows, which see so many slots; None: there is none."""
    if not 0 < rows <= MOST_ROWS or width > WIDTHS[-1]:
        return None
    return Bucket(ROWS[bisect_left(ROWS, rows)], WIDTHS[bisect_left(WIDTHS, width)])
