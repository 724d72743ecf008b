"""The CUDA runtime's functions that pin memory, for the slabs that the link receives into (csrc/net/slab.hpp).

Copies from pinned memory to a GPU need no stop in between. Has not run on a GPU yet.
"""

from __future__ import annotations

import ctypes

from edgespec.core.errors import EdgespecError


def pinning() -> tuple[int, int]:
    """The addresses of `cudaHostRegister` and `cudaHostUnregister`, of the runtime that torch has loaded.

    Raises EdgespecError where there is no GPU, or not that runtime.
    """
    import torch

    if not torch.cuda.is_available():
        raise EdgespecError(
            "--pin-buffers is for a server with a CUDA GPU, and torch shows none: leave it out."
        )
    major = str(torch.version.cuda).split(".")[0]
    try:
        runtime = ctypes.CDLL(f"libcudart.so.{major}")
        return _address(runtime.cudaHostRegister), _address(runtime.cudaHostUnregister)
    except (OSError, AttributeError) as error:
        raise EdgespecError(
            f"--pin-buffers needs the CUDA {major} runtime library that torch uses ({error}): leave it out."
        ) from None


def _address(function: object) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)  # type: ignore[arg-type]
