"""Which targets may keep keys and values as 8-bit floats; the others are refused by name before weights are read."""

from __future__ import annotations

from typing import Any

import torch

from edgespec.core.errors import EdgespecError
from edgespec.kernels.variants import FLOAT8_ARCHITECTURE


def check_float8_pool(
    text_config: Any, name: str, dtype: torch.dtype, device: torch.device, sharded: bool, pictures: bool
) -> None:
    """sharded, pictures: the target is split over processes, or reads pictures. Raises EdgespecError."""
    reason = None
    if sharded:
        reason = "is split over processes"
    elif pictures:
        reason = "reads pictures, which was not tested with it"
    elif getattr(text_config, "kv_lora_rank", None):
        reason = "keeps latents, no keys and values"
    elif device.type == "cuda" and architecture_of(device) < FLOAT8_ARCHITECTURE:
        reason = (
            f"is to run on a GPU of compute capability {architecture_of(device) / 10}, and 8-bit floats need "
            f"{FLOAT8_ARCHITECTURE / 10}"
        )
    elif device.type == "cuda" and dtype == torch.float32:
        reason = "is to run in float32 on a GPU, whose kernels read 8-bit floats beside halves"
    if reason is not None:
        raise EdgespecError(f"--kv-dtype fp8 is not for {name}, which {reason}: leave it out.")


def architecture_of(device: torch.device) -> int:
    """The compute capability of a CUDA device: 90 is 9.0."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
