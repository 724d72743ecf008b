"""Which backend of the kernels a device runs: the one place that says so.

CPUs run the C++ kernels; NVIDIA GPUs the Triton kernels, compiled just in time or built before. Elsewhere there is
none: the target samples on the host, and its exits run in torch.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch

from edgespec.core.errors import EdgespecError, first_line
from edgespec.kernels import launching
from edgespec.kernels.model_variants import ModelSizes, variants_of
from edgespec.kernels.variants import MOST_TOKENS, PROGRAMS_A_PROCESSOR
from edgespec.model.loaded_model import LoadedModel

log = logging.getLogger("edgespec.model")

BACKEND_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}

ATTENTION_OF_DEVICE = {"cuda": "triton"}
"""Where attention reads pages by the kernel tree_attention, and its backend. Elsewhere SDPA reads them."""


def backend_on(device: torch.device) -> str | None:
    """The `backend` of edgespec.kernels for this device; None: there is none."""
    backend = BACKEND_OF_DEVICE.get(device.type)
    return None if backend == "triton" and not _launches(device.index or 0) else backend


def attention_backend_on(device: torch.device, dtype: torch.dtype) -> str | None:
    """The `backend` of tree_attention for this device and type; None: there is none."""
    backend = ATTENTION_OF_DEVICE.get(device.type)
    if backend == "triton" and (
        dtype == torch.float64 or (device.type == "cuda" and backend_on(device) is None)
    ):
        return None
    return backend


def working_on(device: torch.device) -> AbstractContextManager[object]:
    """Within, what names no CUDA device goes to this one: streams, graphs and Triton's launches."""
    if device.type != "cuda":
        return nullcontext()
    # torch prefers cuDNN's attention on newer GPUs, which makes a plan for each shape: that takes up to half a second,
    # and forwards change shapes all the time.
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.cuda.device(device)


def compile_kernels(model: LoadedModel, narrow: bool) -> None:
    """Compile what a model launches, before a session waits for it. narrow: exits read a head of 8 bits, where the
    model's has halves. Raises EdgespecError for a vocabulary that no variant holds."""
    device, dtype, config, vocabulary = model.device, model.dtype, model.config, model.vocabulary_size
    if device.type != "cuda" or backend_on(device) is None:
        return
    if vocabulary > MOST_TOKENS:
        raise EdgespecError(
            f"a vocabulary of {vocabulary} tokens is more than the GPU's kernels hold, {MOST_TOKENS}: serve this "
            "target with --device cpu."
        )
    if not launching.just_in_time():
        return
    at_once = PROGRAMS_A_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    sizes = ModelSizes(
        dtype=launching.TYPES[dtype].removeprefix("*"),
        vocabulary=vocabulary,
        width=config.hidden_size,
        head_width=head_width(config),
        inner=getattr(config, "intermediate_size", None) or 0,
        at_once=at_once,
        narrow=narrow and dtype.itemsize == 2,
        float8_pool=model.float8_pool,
    )
    try:
        launching.compile_all(variants_of(sizes), "compiling kernels")
    except Exception as error:  # whatever Triton raises: a launch that needs that kernel says so again
        log.warning("not all kernels could be compiled ahead of the first forward: %s", first_line(error))


def head_width(config: Any) -> int:
    """Of a model's keys."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


@lru_cache
def _launches(index: int) -> bool:
    """Whether kernels run on the CUDA device of this number; the log says why not."""
    problem = launching.problem_on(index)
    if problem is not None:
        log.warning("the target samples on the host and its exits run in torch: %s", problem)
    return problem is None
