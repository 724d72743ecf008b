"""Memory and a stream on the GPU for the TensorRT runtime, in the primary context, which TensorRT and torch use too.

All work is in the order of the stream; only `synchronize` waits. The driver aligns to 256 bytes, as TensorRT requires.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.core.cuda_driver import OUT_OF_MEMORY, CudaDriver, CudaError
from edgespec.core.errors import EdgespecError

ALIGNMENT = 256

ON_DEVICE = 2
"""CUmemorytype."""

HostBytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Buffer:
    """Bytes on the device, at first zero."""

    address: int
    size: int


@dataclass(frozen=True)
class Lines:
    """Lines of bytes that lie `pitch` bytes apart, the first one at `offset`."""

    buffer: Buffer
    offset: int
    pitch: int


class Copy2D(ctypes.Structure):
    """CUDA_MEMCPY2D."""

    _fields_ = [
        field
        for side in ("source", "target")
        for field in (
            (f"{side}_x", ctypes.c_size_t),
            (f"{side}_y", ctypes.c_size_t),
            (f"{side}_type", ctypes.c_uint),
            (f"{side}_host", ctypes.c_void_p),
            (f"{side}_address", ctypes.c_ulonglong),
            (f"{side}_array", ctypes.c_void_p),
            (f"{side}_pitch", ctypes.c_size_t),
        )
    ] + [("width", ctypes.c_size_t), ("height", ctypes.c_size_t)]


class DeviceMemory:
    """A stream of the first GPU, and memory, each piece of which is freed when nothing refers to it any more.

    `active` gives the calling thread the GPU; every other method is called inside.
    """

    def __init__(self, cuda: CudaDriver) -> None:
        """Raises CudaError where the GPU cannot be used."""
        self._call = cuda.call
        self._context, self._stream = ctypes.c_void_p(), ctypes.c_void_p()
        device = ctypes.c_int()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        with self.active():
            self._call("cuStreamCreate", ctypes.byref(self._stream), ctypes.c_uint(0))

    @property
    def stream(self) -> int:
        """Its handle."""
        return self._stream.value or 0

    @contextmanager
    def active(self) -> Iterator[None]:
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def allocate(self, size: int) -> Buffer:
        """Raises EdgespecError where the GPU has less left."""
        address = ctypes.c_ulonglong()
        try:
            self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            raise EdgespecError(
                f"the GPU has less than {size / 2**20:.0f} MiB left: end other programs on it, or compile with a "
                "smaller max_len."
            ) from None
        buffer = Buffer(address.value, size)
        weakref.finalize(buffer, self._free, "cuMemFree_v2", address).atexit = False
        self.clear(buffer)
        return buffer

    def pinned(self, size: int) -> HostBytes:
        """Memory of the host that the GPU reads and writes itself."""
        address = ctypes.c_void_p()
        self._call("cuMemAllocHost_v2", ctypes.byref(address), ctypes.c_size_t(size))
        block = (ctypes.c_uint8 * size).from_address(address.value or 0)
        weakref.finalize(block, self._free, "cuMemFreeHost", address).atexit = False
        memory = np.ctypeslib.as_array(block)  # which holds the block, as its views do
        memory[:] = 0
        return memory

    def upload(self, target: Buffer, source: HostBytes) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", _at(target), ctypes.c_void_p(source.ctypes.data), len(source))

    def download(self, target: HostBytes, source: Buffer) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(target.ctypes.data), _at(source), len(target))

    def copy_lines(self, target: Lines, source: Lines, width: int, count: int) -> None:
        """Copy `count` lines of `width` bytes."""
        copy = Copy2D(
            source_type=ON_DEVICE,
            source_address=source.buffer.address + source.offset,
            source_pitch=source.pitch,
            target_type=ON_DEVICE,
            target_address=target.buffer.address + target.offset,
            target_pitch=target.pitch,
            width=width,
            height=count,
        )
        self._call("cuMemcpy2DAsync_v2", ctypes.byref(copy), self._stream)

    def clear(self, buffer: Buffer) -> None:
        zero = ctypes.c_ubyte(0)
        self._call("cuMemsetD8Async", _at(buffer), zero, ctypes.c_size_t(buffer.size), self._stream)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    def _copy(self, name: str, target: object, source: object, size: int) -> None:
        self._call(name, target, source, ctypes.c_size_t(size), self._stream)

    def _free(self, name: str, address: object) -> None:
        with suppress(CudaError), self.active():
            self._call(name, address)

    def __del__(self) -> None:
        self._free("cuStreamDestroy_v2", self._stream)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _at(buffer: Buffer) -> ctypes.c_ulonglong:
    return ctypes.c_ulonglong(buffer.address)
