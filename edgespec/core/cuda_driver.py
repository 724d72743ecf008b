"""The CUDA driver by ctypes: which GPU is here, CUDA graphs, and kernels from cubins.

libcuda comes with the driver, on a Jetson with JetPack, so this needs no package. Work runs in the calling thread's
current context.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgespec.core.errors import EdgespecError

OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
"""CUdevice_attribute."""

CAPTURE_THREAD_LOCAL = 1
"""CUstreamCaptureMode: other threads of the process do not disturb the capture."""

STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a kernel may use without asking for more."""

MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
"""CUfunction_attribute."""


class CudaError(EdgespecError):
    """There is no driver, or a call of it failed. code: the driver's error number."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class CudaDriver:
    """libcuda, or a stand-in with the same functions."""

    def __init__(self, library: Any = None) -> None:
        """Raises CudaError where there is no libcuda."""
        try:
            self._library = ctypes.CDLL("libcuda.so.1") if library is None else library
        except OSError as error:
            raise CudaError(f"the CUDA driver cannot be loaded ({error}): install NVIDIA's driver.") from None

    def call(self, name: str, *arguments: Any) -> None:
        """Raises CudaError where the call fails."""
        if code := getattr(self._library, name)(*arguments):
            raise CudaError(
                f"the CUDA driver's {name} failed with error {code}: check it with nvidia-smi.", code
            )

    def load(self, code: bytes, symbol: str, shared_bytes: int) -> ctypes.c_void_p:
        """The function `symbol` of a cubin."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), code)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, symbol.encode())
        if shared_bytes > STATIC_SHARED_BYTES:
            self.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        blocks: int,
        threads: int,
        shared_bytes: int,
        stream: int,
        arguments: Sequence[Any],
    ) -> None:
        """Run `blocks` blocks of `threads` threads; arguments: ctypes values, which the driver copies."""
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(one) for one in arguments))
        grid = (blocks, 1, 1, threads, 1, 1)
        self.call("cuLaunchKernel", function, *grid, shared_bytes, ctypes.c_void_p(stream), addresses, None)


@cache
def driver() -> CudaDriver:
    """This machine's. Raises CudaError."""
    return CudaDriver()


class CapturedGraph:
    """The work that `enqueue` puts on a stream, captured so that one call launches it again."""

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        """Raises CudaError where `enqueue` cannot be captured, and what `enqueue` raises."""
        call, graph = driver().call, ctypes.c_void_p()
        self._executable = ctypes.c_void_p()
        self._stream = ctypes.c_void_p(stream)
        call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(CAPTURE_THREAD_LOCAL))
        try:
            enqueue()
        finally:
            call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        no_flags = ctypes.c_ulonglong(0)
        call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, no_flags)
        call("cuGraphDestroy", graph)

    def launch(self) -> None:
        driver().call("cuGraphLaunch", self._executable, self._stream)

    def __del__(self) -> None:
        if self._executable:
            driver().call("cuGraphExecDestroy", self._executable)


@dataclass(frozen=True)
class Gpu:
    """name: as the driver calls it. compute_capability: "8.7". memory_bytes: shared with the CPU on a Jetson."""

    name: str
    compute_capability: str
    memory_bytes: int


def first_gpu() -> Gpu | None:
    """The GPU that an engine would run on; None where there is no driver or no GPU."""
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    try:
        call = driver().call
        call("cuInit", ctypes.c_uint(0))
        call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
        call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        for value, attribute in ((major, COMPUTE_CAPABILITY_MAJOR), (minor, COMPUTE_CAPABILITY_MINOR)):
            call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
    except CudaError:
        return None
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value)
