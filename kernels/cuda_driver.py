"""The four calls of the CUDA driver that run a cubin, by ctypes: no package beside torch is needed.

All work in the calling thread's current context, which torch sets when it allocates on a device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from edgespec.core.errors import EdgespecError

STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a kernel may use without asking for more."""

MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class CudaDriver:
    """libcuda, or a stand-in with the same functions. Raises EdgespecError where there is none, or a call fails."""

    def __init__(self, library: Any = None) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1") if library is None else library
        except OSError as error:
            raise EdgespecError(
                f"the CUDA driver cannot be loaded ({error}): install NVIDIA's driver."
            ) from None

    def load(self, code: bytes, symbol: str, shared_bytes: int) -> ctypes.c_void_p:
        """The function `symbol` of a cubin."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), code)
        self._call("cuModuleGetFunction", ctypes.byref(function), module, symbol.encode())
        if shared_bytes > STATIC_SHARED_BYTES:
            self._call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)
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
        self._call("cuLaunchKernel", function, *grid, shared_bytes, ctypes.c_void_p(stream), addresses, None)

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise EdgespecError(f"the CUDA driver's {name} failed with error {code}.")
