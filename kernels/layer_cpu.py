"""A decoder layer's small steps on a CPU, in torch: what transformers' modules do, step by step. Imports torch."""

from __future__ import annotations

import torch
from torch import Tensor

from edgespec.kernels.layer_data import HeadNorms, Norm
from edgespec.kernels.narrow_pool import put


def residual_norm(
    added: Tensor | None, residual: Tensor, norm: Norm, post: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As edgespec.kernels.layer.residual_norm."""
    if added is not None:
        residual = residual + (added if post is None else normalised(added, post, norm.unit, norm.epsilon))
    return residual, normalised(residual, norm.weight, norm.unit, norm.epsilon)


def rotary_write(
    qkv: Tensor, cosines: Tensor, sines: Tensor, slots: Tensor, keys: Tensor, values: Tensor,
    norms: HeadNorms | None,
) -> Tensor:  # fmt: skip
    """As edgespec.kernels.layer.rotary_write."""
    rows, width = cosines.shape
    kv_heads = keys.shape[0]
    parts = qkv.view(rows, -1, width)
    query, key, value = parts.tensor_split((-2 * kv_heads, -kv_heads), dim=1)
    if norms is not None:
        query = normalised(query, norms.query, norms.unit, norms.epsilon)
        key = normalised(key, norms.key, norms.unit, norms.epsilon)
    put(keys, 1, slots, _turned(key, cosines, sines).transpose(0, 1))
    put(values, 1, slots, value.transpose(0, 1))
    return _turned(query, cosines, sines)


def gated(gate_up: Tensor, gelu: bool) -> Tensor:
    """As edgespec.kernels.layer.gated."""
    gate, up = gate_up.chunk(2, dim=-1)
    active = torch.nn.functional.gelu(gate, approximate="tanh") if gelu else torch.nn.functional.silu(gate)
    return active * up


def normalised(rows: Tensor, weight: Tensor, unit: bool, epsilon: float) -> Tensor:
    wide = rows.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    if unit:
        return (wide * (1.0 + weight.float())).to(rows.dtype)
    return weight * wide.to(rows.dtype)


def _turned(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines[:, None] + torch.cat([-second, first], dim=-1) * sines[:, None]
