"""Which backend of the kernels a device runs: the one place that says so.

CPUs run the C++ kernels, NVIDIA GPUs the Triton kernels. Elsewhere there is none: the target samples on the host, and
its exits run in torch.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch

BACKEND_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}


def backend_on(device: torch.device) -> str | None:
    """The `backend` of edgespec.kernels for this device; None: there is none."""
    backend = BACKEND_OF_DEVICE.get(device.type)
    return None if backend == "triton" and not _has_triton() else backend


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
