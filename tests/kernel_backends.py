"""The backends that kernel tests run over; Triton's only in the process where its interpreter is on."""

from __future__ import annotations

import os

import pytest

from edgespec import _native

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

triton = pytest.param(
    "triton", marks=pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's own process")
)

BACKENDS = ["cpu", triton]

TIERS = _native.simd_tiers()
