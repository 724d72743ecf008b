"""Launches a decoder layer's small steps on CUDA; their checks have passed."""

from __future__ import annotations

import torch
from torch import Tensor

from edgespec.kernels.launching import launch, power_of_2
from edgespec.kernels.layer_data import HeadNorms, Norm
from edgespec.kernels.variants import GATED_BLOCK, TURNED_PARTS


def residual_norm(
    added: Tensor | None, residual: Tensor, norm: Norm, post: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As edgespec.kernels.layer.residual_norm."""
    rows, width = residual.shape
    normed = torch.empty_like(residual)
    summed = residual if added is None else torch.empty_like(residual)
    launch(
        "residual_norm",
        rows,
        [residual if added is None else added, residual, norm.weight if post is None else post, norm.weight,
         summed, normed, width, int(added is not None), int(post is not None), int(norm.unit), norm.epsilon],
        {"BLOCK": power_of_2(width)},
        residual.device,
    )  # fmt: skip
    return summed, normed


def rotary_write(
    qkv: Tensor, cosines: Tensor, sines: Tensor, slots: Tensor, keys: Tensor, values: Tensor,
    norms: HeadNorms | None,
) -> Tensor:  # fmt: skip
    """As edgespec.kernels.layer.rotary_write."""
    rows, width = cosines.shape
    kv_heads, pool_slots = keys.shape[:2]
    parts = qkv.shape[1] // width
    heads = parts - 2 * kv_heads
    query = torch.empty(rows, heads, width, dtype=qkv.dtype, device=qkv.device)
    used = norms or HeadNorms(cosines, cosines, False, 0.0)
    launch(
        "rotary_write",
        rows * -(-parts // TURNED_PARTS),
        [qkv, cosines, sines, slots, used.query, used.key, query, keys, values, heads, kv_heads, width, pool_slots,
         int(norms is not None), int(used.unit), used.epsilon],
        {"HALF": power_of_2(width // 2)},
        qkv.device,
    )  # fmt: skip
    return query


def gated(gate_up: Tensor, gelu: bool) -> Tensor:
    """As edgespec.kernels.layer.gated."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    product = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    launch("gated", rows * -(-width // GATED_BLOCK), [gate_up, product, width, int(gelu)], {}, gate_up.device)
    return product
