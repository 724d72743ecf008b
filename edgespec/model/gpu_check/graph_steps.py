"""The steps of a check that look at captured forwards: nodes of a layer, what exits add, and the host's time."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.cost_limits import MOST_EXITS_SHARE, MOST_LAUNCHES_A_LAYER
from edgespec.model.cuda_graphs import Graph, GraphedForwards
from edgespec.model.gpu_check.models import request_behind, target_of
from edgespec.model.gpu_check.place import Place, Row, Shape
from edgespec.model.target_engine import ForwardRequest

HOST_TARGETS_MS = {1: 0.15, 8: 0.4}
"""By the number of sessions with ROWS rows each."""

ROWS = 8


class Operators(TorchDispatchMode):
    """Counts torch's operators that compute something: no views, no empty memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        made = any(isinstance(one, torch.Tensor) for one in tree_leaves(result))
        empty = function.overloadpacket.__name__.startswith(("empty", "new_empty"))
        self.count += made and not function.is_view and not empty
        return result


class NodeCounter:
    """A capture that only counts: the nodes of the CUDA graph; on a CPU the operators of torch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.nodes = 0

    def __call__(self, function: Callable[[], torch.Tensor]) -> Graph:
        output = function()
        if self._device.type == "cuda":
            self.nodes = self._nodes(function)
        else:
            with Operators() as operators:
                function()
            self.nodes = operators.count
        return lambda: None, output

    def _nodes(self, function: Callable[[], torch.Tensor]) -> int:
        graph, stream = torch.cuda.CUDAGraph(keep_graph=True), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()  # libraries take their workspaces
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            function()
        count = ctypes.c_size_t()
        raw = ctypes.c_void_p(graph.raw_cuda_graph())
        problem = ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(raw, None, ctypes.byref(count))
        if problem:
            raise EdgespecError(f"the driver does not say how many nodes a graph has: error {problem}.")
        return count.value


def nodes_of_a_layer(place: Place) -> Iterator[Row]:
    """What a model with two layers more has more. Raises EdgespecError where a GPU's are too many."""
    found = []
    for layers in (2, 4):
        found.append(_nodes_of(replace(place.shapes[0], layers=layers), place))
        place.give_back()
    a_layer = (found[1] - found[0]) / 2
    if place.device.type == "cuda" and a_layer > MOST_LAUNCHES_A_LAYER:
        raise EdgespecError(f"a captured layer has {a_layer:g} nodes, more than {MOST_LAUNCHES_A_LAYER}.")
    what = "nodes" if place.device.type == "cuda" else "operators of torch"
    yield {"what": f"{what} of a captured layer", "a_layer": a_layer, "outside": found[0] - 2 * a_layer}


def _nodes_of(shape: Shape, place: Place) -> int:
    target, counter = target_of(shape, place), NodeCounter(place.device)
    request = request_behind(target, SLOT_BUCKET, ROWS)
    target.use_graphs(counter)
    target.forward_batch([request])
    return counter.nodes


def exits_add(place: Place) -> Iterator[Row]:
    """What three exits add to a forward."""
    for shape, narrow in itertools.product(place.shapes, place.narrow_heads):
        without, with_exits = _without_and_with(shape, place, 8 if narrow else 16)
        bits = 8 if narrow else 8 * place.dtype.itemsize
        yield {
            "shape": shape.name, "bits": bits, "rows": ROWS, "without_us": without, "with_us": with_exits,
            "added": with_exits / without - 1, "target": MOST_EXITS_SHARE,
        }  # fmt: skip
        place.give_back()


def _without_and_with(shape: Shape, place: Place, exit_bits: int) -> list[float]:
    target = target_of(shape, place, exit_bits)
    request = request_behind(target, place.slots[0] - SLOT_BUCKET // 2, ROWS)
    read = (), target.exit_layers
    return [place.median_us(partial(target.forward_batch, [request], layers)) for layers in read]


def host_times(place: Place) -> Iterator[Row]:
    """Of a forward with decisions whose layers do not run, so that what is left is the host's, and verify's."""
    target = target_of(place.shapes[0], place)
    target.use_graphs(lambda function: (lambda: None, function()))
    graphs = target.runner.graphs
    assert graphs is not None
    length = place.slots[0] - SLOT_BUCKET // 2
    for sessions, target_ms in HOST_TARGETS_MS.items():
        batch = [request_behind(target, length, ROWS, one) for one in range(sessions)]
        inputs_us = place.median_of(partial(_launching_us, place, graphs, batch))
        whole_us = place.median_us(partial(target.forward_batch, batch))
        yield {
            "sessions": sessions, "rows": sessions * ROWS, "inputs_ms": inputs_us / 1e3,
            "with_verify_ms": whole_us / 1e3, "target_ms": target_ms,
        }  # fmt: skip
        for one in batch:
            one.cache.release()


def _launching_us(place: Place, graphs: GraphedForwards, batch: Sequence[ForwardRequest]) -> float:
    """Until the forward is launched."""
    place.wait()
    start_s = time.perf_counter()
    graphs(batch)
    return (time.perf_counter() - start_s) * 1e6
