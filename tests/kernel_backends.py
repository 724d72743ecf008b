"""The backends that kernel tests run over; Triton's only in the process where its interpreter is on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from edgespec import _native
from edgespec.kernels.data import Samplings

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

triton = pytest.param(
    "triton", marks=pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's own process")
)

BACKENDS = ["cpu", triton]

TIERS = _native.simd_tiers()


SAMPLING_TYPES = {
    "temperature": np.float64, "top_k": np.int32, "top_p": np.float64,
    "min_p": np.float64, "repetition_penalty": np.float64, "seed": np.uint64,
}  # fmt: skip


def samplings(sessions: Sequence[Mapping[str, Any]]) -> Samplings:
    """How each session samples; parameters as in edgespec.SamplingParams."""
    plain = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0}
    given = [{**plain, **one} for one in sessions]
    return Samplings(*(np.array([one[name] for one in given], kind) for name, kind in SAMPLING_TYPES.items()))


def same_samplings(sessions: int, **parameters: Any) -> Samplings:
    """Every session samples alike."""
    return samplings([parameters] * sessions)
