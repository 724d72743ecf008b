"""A TensorRT for machines without a GPU: the calls that the runtime makes, the plan being an ONNX file run on the CPU.

Every method here exists in the real bindings (test_tensorrt_refusals.py compares them), and holds the caller to what
the real one asks for: shapes within a profile's, addresses aligned and of this process, a profile before a run, outputs
that lie neither on inputs nor on each other. Work on the stream is done when the caller waits for it, so what it reads
must stay as it is until then. `failing` names the calls that fail.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from edgespec.core.cuda_driver import OUT_OF_MEMORY
from edgespec.tensorrt_engines.device_memory import ALIGNMENT

STREAM = 7


class FakeCuda:
    """What of libcuda the memory uses, on this machine's own memory. pending: the work on the stream."""

    def __init__(self) -> None:
        self.activated = 0
        self.allocated: dict[int, Any] = {}
        self.pending: list[Callable[[], object]] = []

    def enqueue(self, work: Callable[[], object]) -> int:
        assert self.activated
        self.pending.append(work)
        return 0

    def cuInit(self, flags: Any) -> int:
        return 0

    def cuDeviceGet(self, device: Any, number: Any) -> int:
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        self.activated += 1
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.activated -= 1
        return 0

    def cuStreamCreate(self, stream: Any, flags: Any) -> int:
        stream._obj.value = STREAM
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        assert self.activated
        if size.value > self.free_bytes:
            return OUT_OF_MEMORY
        memory = np.full(size.value + ALIGNMENT, 7, dtype=np.uint8)
        address._obj.value = memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
        self.allocated[address._obj.value] = memory
        return 0

    free_bytes = 1 << 40
    cuMemAllocHost_v2 = cuMemAlloc_v2

    def cuMemFree_v2(self, address: Any) -> int:
        self.cuStreamSynchronize(STREAM)
        del self.allocated[address.value]
        return 0

    cuMemFreeHost = cuMemFree_v2

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert stream.value == STREAM
        return self.enqueue(lambda: ctypes.memmove(target.value, source.value, size.value))

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2

    def cuMemcpy2DAsync_v2(self, copy: Any, stream: Any) -> int:
        of = copy._obj

        def lines() -> None:
            for line in range(of.height):
                into = of.target_address + line * of.target_pitch
                ctypes.memmove(into, of.source_address + line * of.source_pitch, of.width)

        return self.enqueue(lines)

    def cuMemsetD8Async(self, address: Any, value: Any, size: Any, stream: Any) -> int:
        return self.enqueue(lambda: ctypes.memset(address.value, value.value, size.value))

    def cuStreamSynchronize(self, stream: Any) -> int:
        assert self.activated
        work, self.pending = self.pending, []
        for one in work:
            one()
        return 0

    cuStreamDestroy_v2 = cuStreamSynchronize


class Context:
    """Runs the graph at the addresses that it was given, as execute_async_v3 does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.runs = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        if profile_index >= self.engine.profiles or self.fails("set_optimization_profile_async"):
            return False
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name in self.engine.inputs and self.profile is not None
        if self.fails("set_input_shape"):
            return False
        least, most = self.engine.limits(name, self.profile)
        self.shapes[name] = tuple(shape)
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in (*self.engine.inputs, *self.engine.outputs) and address % ALIGNMENT == 0
        self.addresses[name] = address
        return not self.fails("set_tensor_address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM and set(self.addresses) == {*self.engine.inputs, *self.engine.outputs}
        if self.fails("execute_async_v3"):
            return False
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        self.engine.cuda.enqueue(lambda: self._run(shapes, addresses))
        self.runs += 1
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        values = {name: _at(addresses[name], shapes[name], kind) for name, kind in self.engine.inputs.items()}
        results = self.engine.session.run(list(self.engine.outputs), values)
        sizes = {name: value.nbytes for name, value in values.items()}
        sizes |= {name: result.nbytes for name, result in zip(self.engine.outputs, results, strict=True)}
        places = sorted((addresses[name], size, name) for name, size in sizes.items() if size)
        for (one, size, name), (other, _, another) in pairwise(places):
            both_read = {name, another} <= set(self.engine.inputs)
            assert one + size <= other or both_read, f"{name} lies on {another}"
        for name, result in zip(self.engine.outputs, results, strict=True):
            _at(addresses[name], result.shape, result.dtype)[...] = result

    def fails(self, call: str) -> bool:
        return call in self.engine.failing


class Engine:
    """A plan as it is opened: a graph, its tensors, and the limits of its two profiles; `runtime` opens it."""

    def __init__(self, plan: bytes, runtime: Runtime) -> None:
        rows, deciding = runtime.limits
        self.cuda, self.failing = runtime.cuda, runtime.failing
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: _kind(value.type) for value in self.session.get_inputs()}
        self.outputs = {value.name: _kind(value.type) for value in self.session.get_outputs()}
        self.contexts: list[Context] = []
        self.profiles = len(rows)
        self._rows, self._deciding = rows, deciding

    def create_execution_context(self) -> Context | None:
        if "create_execution_context" in self.failing:
            return None
        self.contexts.append(Context(self))
        return self.contexts[-1]

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return {**self.inputs, **self.outputs}[name]

    def limits(self, name: str, profile: int) -> tuple[list[int], list[int]]:
        most = {"rows": self._rows[profile], "slots": 1 << 20}
        shape = next(value.shape for value in self.session.get_inputs() if value.name == name)
        sizes = [size if isinstance(size, int) else most.get(size, self._deciding[profile]) for size in shape]
        least = [size if isinstance(size, int) else 1 for size in shape]
        return least, sizes


class ILogger:
    Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)


class Runtime:
    """Opens plans; `opened` holds the engines, for tests to look at."""

    opened: list[Engine]
    limits: tuple[tuple[int, ...], tuple[int, ...]]
    cuda: FakeCuda
    failing: set[str]

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan:
            self._logger.log(ILogger.Severity.ERROR, "the plan is\n empty")
            return None
        self.opened.append(Engine(plan, self))
        return self.opened[-1]


def fake_api(rows: tuple[int, ...], deciding: tuple[int, ...], cuda: FakeCuda) -> Any:
    """A module like `tensorrt`; rows, deciding: what its plans take in each profile."""
    settings = {"opened": [], "limits": (rows, deciding), "cuda": cuda, "failing": set()}
    runtime = type("Runtime", (Runtime,), settings)
    return SimpleNamespace(__version__="10.3.0", ILogger=ILogger, Runtime=runtime, nptype=lambda kind: kind)


def _at(address: int, shape: tuple[int, ...], kind: np.dtype[Any]) -> Any:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.ctypeslib.as_array(memory).view(kind).reshape(shape)


def _kind(name: str) -> np.dtype[Any]:
    names = {"tensor(float)": "float32", "tensor(bool)": "bool"}
    return np.dtype(names.get(name, name.removeprefix("tensor(").removesuffix(")")))
