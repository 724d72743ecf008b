"""Execution contexts of a TensorRT plan: one per profile for rare shapes, one per shape for frequent shapes.

A CUDA graph holds the state of its context, so a context from which a graph was captured is never changed again.
TensorRT-RTX captures by itself, and needs a context that keeps its shape for it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from edgespec.core.cuda_driver import CapturedGraph, CudaError
from edgespec.core.errors import EdgespecError
from edgespec.tensorrt_engines.device_buffers import Bindings
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.draft_shape import RunShape
from edgespec.tensorrt_engines.plan import DECODE_ROWS

DECODE_PROFILE, PREFILL_PROFILE = 0, 1

CAPTURED_SHAPES = 8
"""Shapes that have a context and a graph of their own; each context holds a run's scratch memory."""

CAPTURE_AFTER = 3
"""The run of a shape at which it gets them."""


class Contexts:
    """engine: the opened plan, an `ICudaEngine`."""

    def __init__(self, api: Any, engine: Any, memory: DeviceMemory) -> None:
        self._api = api
        self._engine = engine
        self._memory = memory
        self._captures_itself = hasattr(api, "CudaGraphStrategy")
        self._common = [self._context(profile) for profile in (DECODE_PROFILE, PREFILL_PROFILE)]
        self._runs: Counter[RunShape] = Counter()
        self._own: OrderedDict[RunShape, tuple[Any, CapturedGraph | None]] = OrderedDict()

    def launch(self, shape: RunShape, bindings: Bindings) -> None:
        """Put one run on the stream."""
        self._runs[shape] += 1
        if shape in self._own:
            self._own.move_to_end(shape)
            context, graph = self._own[shape]
            if graph is not None:
                graph.launch()
            else:
                self._enqueue(context)
            return
        profile = DECODE_PROFILE if shape.rows <= DECODE_ROWS else PREFILL_PROFILE
        frequent = profile == DECODE_PROFILE and self._runs[shape] >= CAPTURE_AFTER
        context = self._context(profile) if frequent else self._common[profile]
        for name, (dimensions, address) in bindings.items():
            if dimensions is not None and not context.set_input_shape(name, dimensions):
                raise EdgespecError(f"the plan does not take {name} of shape {dimensions}: build it again.")
            if not context.set_tensor_address(name, address):
                raise EdgespecError(f"the plan has no tensor {name}: build it again.")
        # The first run after a change of shape may do work that a capture does not allow.
        self._enqueue(context)
        if frequent:
            self._own[shape] = context, None if self._captures_itself else self._captured(context)
            if len(self._own) > CAPTURED_SHAPES:
                self._memory.synchronize()
                self._own.popitem(last=False)

    def _captured(self, context: Any) -> CapturedGraph | None:
        """The context's run as a graph; None where it cannot be captured, and then each run is enqueued."""
        self._memory.synchronize()
        try:
            return CapturedGraph(self._memory.stream, lambda: self._enqueue(context))
        except CudaError:
            return None

    def _context(self, profile: int) -> Any:
        if self._captures_itself:
            settings = self._engine.create_runtime_config()
            settings.cuda_graph_strategy = self._api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(settings)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise EdgespecError(
                "the GPU has no memory left for the plan's scratch: end other programs on it."
            )
        if not context.set_optimization_profile_async(profile, self._memory.stream):
            raise EdgespecError(f"the plan has no profile {profile} for this run: build it again.")
        return context

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._memory.stream):
            raise EdgespecError(
                "the plan did not run: build it again on this device, or use --runtime onnxruntime."
            )
