"""The target's forward as CUDA graphs: launched whole, where eager PyTorch launches some hundred kernels one by one.

One graph for each bucket of rows and slots, captured when it is first needed; all share one memory pool, and read
their inputs from `StaticInputs`. A batch beyond the buckets, or a model that cannot be captured, runs eagerly. Only
`CudaCapture` knows CUDA: tests replace it by a capture that runs the function again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from edgespec.core.errors import first_line
from edgespec.kernels.attention_plan import HeadGroups
from edgespec.kernels.data import Trees
from edgespec.model.backends import head_width
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.static_attention import StaticAttention
from edgespec.model.static_inputs import ROWS, Bucket, ExitColumns, StaticInputs
from edgespec.model.target_engine import SessionRows

log = logging.getLogger("edgespec.cuda_graphs")

WARM_UPS = 2
"""Runs before the capture, in which libraries choose their kernels and allocate their workspaces."""

NO_MEMORY = "forwards of up to %d rows that see up to %d slots run without a CUDA graph, for want of memory"

Run = Callable[[StaticInputs, frozenset[int]], torch.Tensor]
"""The forward on static inputs, publishing the exits after these layers: logits [R, V] of the selected rows."""


Graph = tuple[Callable[[], None], torch.Tensor]
"""Runs a captured function again, on the same memory; and what it returned."""


Capture = Callable[[Callable[[], torch.Tensor]], Graph]
"""Captures a function."""


class Forwarded(NamedTuple):
    """logits [D, V] of the decided rows. trees: of these rows, where the forward's inputs have brought them to the
    device."""

    logits: torch.Tensor
    trees: Trees | None = None


class CudaCapture:
    """Captures CUDA graphs that share one memory pool: what a graph returned is void once another runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], torch.Tensor]) -> Graph:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):  # writes the same keys and values to the same slots
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads of the server do with CUDA meanwhile is not captured, and does not end the capture.
        mode = "thread_local"
        # Where a capture fails, torch.cuda.graph leaves the thread on its stream: the outer `with` does not.
        with torch.cuda.stream(stream), torch.cuda.graph(graph, self._pool, stream, capture_error_mode=mode):
            output = function()
        return graph.replay, output


def graph_bytes(model: LoadedModel, widths: Sequence[int], groups: HeadGroups | None, exits: bool) -> int:
    """About what all buckets' graphs take, with exits and without: their logits and inputs, and the memory that they
    share, which is that of the largest. widths: of the buckets. groups: of tree_attention; None: torch attends, and
    copies the slots that it reads."""
    config, size = model.config, model.dtype.itemsize
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = head_width(config)
    logits = sum(ROWS) * len(widths) * model.vocabulary_size * size * (2 if exits else 1)
    slots = sum(ROWS) * sum(widths) * len(model.windows.by_layer_type)
    if groups is None:
        seen = slots * size
        copied = size + model.kv_dtype.itemsize
        attention = 2 * heads * width * widths[-1] * copied  # keys and values, and as attention wants them
    else:
        seen = slots // 8
        attention = groups.scratch_bytes(ROWS[-1], width)
    rows = ROWS[-1] * (8 * config.hidden_size + 4 * (getattr(config, "intermediate_size", None) or 0)) * size
    return int(logits + seen + attention + rows)


class GraphedForwards:
    """Forwards of one model by graphs. run: the forward; it may use nothing but its inputs, the weights and memory
    that stays where it is. exits: how many the model has."""

    def __init__(
        self, run: Run, model: LoadedModel, attention: StaticAttention, capture: Capture, exits: int = 0
    ) -> None:
        self._run = run
        self._attention = attention
        self._device = model.device
        self._capture = capture
        self._exits = exits
        self._inputs: dict[Bucket, StaticInputs] = {}
        self._graphs: dict[tuple[Bucket, frozenset[int]], Graph] = {}
        self._too_large: set[tuple[Bucket, frozenset[int]]] = set()
        """Those whose capture found too little memory."""
        self.failed = False
        """A capture failed otherwise: nothing is captured from then on."""

    def fits(self, batch: Sequence[SessionRows]) -> bool:
        """Whether a bucket holds the batch's rows, some of which are decided, and none is a picture's."""
        return any(len(one.decide) for one in batch) and self._bucket(batch) is not None

    def _bucket(self, batch: Sequence[SessionRows]) -> Bucket | None:
        if any(
            len(one.piece) and one.pictures and one.piece.positions.min() < one.pictures[-1].span.end
            for one in batch
        ):
            return None  # a picture's rows are read from elsewhere, and turned on three axes
        rows, slots = sum(len(one.piece) for one in batch), sum(one.piece.cached.shape[1] for one in batch)
        return Bucket.of(rows, slots, self._attention.widths)

    def __call__(
        self,
        batch: Sequence[SessionRows],
        layers: frozenset[int] = frozenset(),
        exits: ExitColumns | None = None,
    ) -> Forwarded | None:
        """The decided rows' logits and trees, valid until the next call; None where the batch must run eagerly.

        layers: those whose exits are read, with the columns that these read; if a capture failed, such forwards run
        eagerly on the static inputs. Raises KvFull.
        """
        bucket = self._bucket(batch)
        decided = sum(len(one.decide) for one in batch)
        if bucket is None or not decided or (self.failed and not layers):
            return None
        if bucket not in self._inputs:
            self._inputs[bucket] = StaticInputs(bucket, self._attention, self._device, self._exits)
        static = self._inputs[bucket]
        trees = static.fill(batch, exits)
        graph = self._graphs.get((bucket, layers)) or self._captured(static, layers)
        if graph is None:
            return Forwarded(self._run(static, layers)[:decided], trees) if layers else None
        replay, logits = graph
        replay()
        return Forwarded(logits[:decided], trees)

    def _captured(self, inputs: StaticInputs, layers: frozenset[int]) -> Graph | None:
        key = inputs.bucket, layers
        if self.failed or key in self._too_large:
            return None
        try:
            graph = self._capture(lambda: self._run(inputs, layers))
        except RuntimeError as error:  # what torch raises for all of CUDA's errors
            cause = _cause(error)
            if isinstance(cause, torch.OutOfMemoryError):
                self._too_large.add(key)
                log.warning(
                    "%s; give less --kv-memory", NO_MEMORY % (inputs.bucket.rows, inputs.bucket.width)
                )
            else:
                self.failed = True
                log.warning(
                    "the target runs without CUDA graphs, because a capture failed: %s", first_line(cause)
                )
            return None
        self._graphs[key] = graph
        return graph


def _cause(error: Exception) -> Exception:
    """The first of the errors that led to this one: ending a capture that failed fails too, and says less."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return error
