"""Memory and a stream on the GPU for the TensorRT runtime: by pycuda, or by torch where it is loaded already.

All work is in the order of one stream; only `synchronize` waits. Addresses are aligned to 256 bytes, as TensorRT
requires.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError

ALIGNMENT = 256

HostBytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Buffer:
    """Bytes on the device, at first zero. owner: the object that frees them."""

    address: int
    size: int
    owner: Any


@dataclass(frozen=True)
class Lines:
    """Lines of bytes that lie `pitch` bytes apart, the first one at `offset`."""

    buffer: Buffer
    offset: int
    pitch: int


class DeviceMemory(Protocol):
    """One stream (`stream` is its handle) of one GPU, and the memory that its work uses.

    active: gives the calling thread the GPU; every other method is called inside. allocate: raises EdgespecError where
    the GPU has less left. pinned: host memory that the GPU reads and writes itself. copy_lines: copies `count` lines
    of `width` bytes. synchronize: waits for all work on the stream.
    """

    @property
    def stream(self) -> int: ...
    def active(self) -> AbstractContextManager[None]: ...
    def allocate(self, size: int) -> Buffer: ...
    def pinned(self, size: int) -> HostBytes: ...
    def upload(self, target: Buffer, source: HostBytes) -> None: ...
    def download(self, target: HostBytes, source: Buffer) -> None: ...
    def copy_lines(self, target: Lines, source: Lines, width: int, count: int) -> None: ...
    def clear(self, buffer: Buffer) -> None: ...
    def synchronize(self) -> None: ...


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def open_device_memory() -> DeviceMemory:
    """By torch where this process has loaded it with CUDA, else by pycuda. Raises EdgespecError."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return TorchMemory(torch)
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise EdgespecError(
            f"a TensorRT engine needs pycuda, which cannot be imported ({error}): pip install pycuda."
        ) from None
    try:
        return PycudaMemory(cuda)
    except cuda.Error as error:
        raise EdgespecError(f"the GPU cannot be used ({error}): check the driver with nvidia-smi.") from None


class PycudaMemory:
    """On the primary context, which TensorRT uses too."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        cuda.init()
        self._context = cuda.Device(0).retain_primary_context()
        with self.active():
            self._stream = cuda.Stream()

    @property
    def stream(self) -> int:
        return int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, size: int) -> Buffer:
        try:
            owner = self._cuda.mem_alloc(size)
        except self._cuda.MemoryError:
            raise _out_of_memory(size) from None
        buffer = Buffer(int(owner), size, owner)
        self.clear(buffer)
        return buffer

    def pinned(self, size: int) -> HostBytes:
        memory: HostBytes = self._cuda.pagelocked_zeros(size, np.uint8)
        return memory

    def upload(self, target: Buffer, source: HostBytes) -> None:
        self._cuda.memcpy_htod_async(target.address, source, self._stream)

    def download(self, target: HostBytes, source: Buffer) -> None:
        self._cuda.memcpy_dtoh_async(target, source.address, self._stream)

    def copy_lines(self, target: Lines, source: Lines, width: int, count: int) -> None:
        copy = self._cuda.Memcpy2D()
        copy.set_src_device(source.buffer.address + source.offset)
        copy.set_dst_device(target.buffer.address + target.offset)
        copy.src_pitch, copy.dst_pitch = source.pitch, target.pitch
        copy.width_in_bytes, copy.height = width, count
        copy(self._stream)

    def clear(self, buffer: Buffer) -> None:
        self._cuda.memset_d8_async(buffer.address, 0, buffer.size, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()


class TorchMemory:
    """On a stream of torch, so that a process that holds torch has a single user of the GPU."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._stream = torch.cuda.Stream()

    @property
    def stream(self) -> int:
        return int(self._stream.cuda_stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._torch.cuda.stream(self._stream):
            yield

    def allocate(self, size: int) -> Buffer:
        try:
            owner = self._torch.zeros(size, dtype=self._torch.uint8, device="cuda")
        except self._torch.cuda.OutOfMemoryError:
            raise _out_of_memory(size) from None
        return Buffer(int(owner.data_ptr()), size, owner)

    def pinned(self, size: int) -> HostBytes:
        memory: HostBytes = self._torch.zeros(size, dtype=self._torch.uint8, pin_memory=True).numpy()
        return memory

    def upload(self, target: Buffer, source: HostBytes) -> None:
        target.owner[: len(source)].copy_(self._torch.from_numpy(source), non_blocking=True)

    def download(self, target: HostBytes, source: Buffer) -> None:
        self._torch.from_numpy(target).copy_(source.owner[: len(target)], non_blocking=True)

    def copy_lines(self, target: Lines, source: Lines, width: int, count: int) -> None:
        strided = self._torch.as_strided
        into = strided(target.buffer.owner, (count, width), (target.pitch, 1), target.offset)
        into.copy_(strided(source.buffer.owner, (count, width), (source.pitch, 1), source.offset))

    def clear(self, buffer: Buffer) -> None:
        buffer.owner.zero_()

    def synchronize(self) -> None:
        self._stream.synchronize()


def _out_of_memory(size: int) -> EdgespecError:
    return EdgespecError(
        f"the GPU has less than {size / 2**20:.0f} MiB left: end other programs on it, or compile with a smaller "
        "max_len."
    )
