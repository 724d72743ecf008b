"""The CUDA driver by ctypes: which GPU is here, and CUDA graphs.

libcuda comes with the driver, on a Jetson with JetPack, so this needs no package. A graph is captured from any
stream, by its handle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
"""CUdevice_attribute."""

CAPTURE_THREAD_LOCAL = 1
"""CUstreamCaptureMode: other threads of the process do not disturb the capture."""


class CudaError(Exception):
    """A call of the driver failed; the message names the call and the driver's error number."""


@dataclass(frozen=True)
class Gpu:
    """name: as the driver calls it. compute_capability: "8.7". memory_bytes: shared with the CPU on a Jetson."""

    name: str
    compute_capability: str
    memory_bytes: int


class CapturedGraph:
    """The work that `enqueue` puts on a stream, captured so that one call launches it again."""

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        """Raises CudaError where `enqueue` cannot be captured, and what `enqueue` raises."""
        graph = ctypes.c_void_p()
        self._executable = ctypes.c_void_p()
        self._stream = ctypes.c_void_p(stream)
        _call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(CAPTURE_THREAD_LOCAL))
        try:
            enqueue()
        finally:
            _call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        no_flags = ctypes.c_ulonglong(0)
        _call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, no_flags)
        _call("cuGraphDestroy", graph)

    def launch(self) -> None:
        _call("cuGraphLaunch", self._executable, self._stream)

    def __del__(self) -> None:
        if self._executable and (library := _library()) is not None:
            library.cuGraphExecDestroy(self._executable)


def first_gpu() -> Gpu | None:
    """The GPU that an engine would run on; None where there is no driver or no GPU."""
    if _library() is None:
        return None
    device, count, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    try:
        _call("cuInit", ctypes.c_uint(0))
        _call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            return None
        _call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        _call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
        _call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        for value, attribute in ((major, COMPUTE_CAPABILITY_MAJOR), (minor, COMPUTE_CAPABILITY_MINOR)):
            _call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
    except CudaError:
        return None
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value)


def _call(name: str, *arguments: object) -> None:
    library = _library()
    if library is None:
        raise CudaError("libcuda is not installed")
    status = getattr(library, name)(*arguments)
    if status:
        raise CudaError(f"{name} failed with CUDA error {status}")


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
