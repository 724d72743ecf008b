"""Which form of the kernels a device runs: the one place that says so.

CPUs run the native ones, NVIDIA GPUs Triton's; on anything else, or without Triton, the target computes in torch, which
is the reference of both.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch

FORM_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}


def form_on(device: torch.device) -> str | None:
    """As edgespec.kernels calls it; None: in torch."""
    form = FORM_OF_DEVICE.get(device.type)
    return None if form == "triton" and not _has_triton() else form


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
