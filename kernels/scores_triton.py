"""What exit_head and tree_attention do to a tile of scores on CUDA: the product, and the soft cap. Imports Triton."""

from __future__ import annotations

import os

import triton
import triton.language as tl

WIDEN = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Multiply in float32: the interpreter's product of bfloat16 is wrong, and so is its bfloat16 of an int8."""


@triton.jit
def add_product(total, left, right):
    """total + left @ right, in float32; right may be int8, which halves hold exactly."""
    if WIDEN:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    right = right.to(left.dtype)
    return tl.dot(left, right, total, input_precision="ieee")


@triton.jit
def soft_capped(scores, softcap):
    """softcap * tanh(scores / softcap); softcap 0: none."""
    if softcap != 0.0:
        small = tl.exp(-2.0 * tl.abs(scores) / softcap)
        scores = tl.where(scores < 0, -softcap, softcap) * (1.0 - small) / (1.0 + small)
    return scores
