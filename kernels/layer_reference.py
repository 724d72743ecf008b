"""The reference of a decoder layer's small steps, in numpy: each product and sum in float64, rounded where the kernels
round."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels.arguments import dtype_name, rounded, widened
from edgespec.kernels.layer_data import HeadNorms, Norm

Array = NDArray[Any]


def residual_norm(added: Any, residual: Any, norm: Norm, post: Any) -> tuple[Array, Array]:
    """As edgespec.kernels.layer.residual_norm."""
    name, rows = dtype_name(residual), widened(residual)
    if added is not None:
        own = widened(added)
        if post is not None:
            own = _normalised(own, widened(post), norm.unit, norm.epsilon, name)
        rows = _as(rows.astype(np.float64) + own, name)
    return rows, _normalised(rows, widened(norm.weight), norm.unit, norm.epsilon, name)


def rotary_write(
    qkv: Any, cosines: Any, sines: Any, pool: Any, norms: HeadNorms | None
) -> tuple[Array, Array, Array]:
    """The queries [R, H, d], and the keys and values [R, G, d] that edgespec.kernels.layer.rotary_write puts into the
    pool [G, S, d] of keys, rounded to its type."""
    name, cos, sin = dtype_name(qkv), widened(cosines)[:, None], widened(sines)[:, None]
    (rows, width), kv_heads, kept = cosines.shape, pool.shape[0], dtype_name(pool)
    parts = widened(qkv).reshape(rows, -1, width)
    query, key, value = np.split(parts, [parts.shape[1] - 2 * kv_heads, parts.shape[1] - kv_heads], axis=1)
    if norms is not None:
        query = _normalised(query, widened(norms.query), norms.unit, norms.epsilon, name)
        key = _normalised(key, widened(norms.key), norms.unit, norms.epsilon, name)

    def turned(heads: Array) -> Array:
        first, second = np.split(heads.astype(np.float64), 2, axis=-1)
        other = np.concatenate([-second, first], axis=-1)
        return _as(
            _as(heads.astype(np.float64) * cos, name).astype(np.float64) + _as(other * sin, name), name
        )

    return turned(query), _as(turned(key), kept), _as(value, kept)


def gated(gate_up: Any, gelu: bool) -> Array:
    """As edgespec.kernels.layer.gated."""
    name = dtype_name(gate_up)
    gate, up = np.split(widened(gate_up).astype(np.float64), 2, axis=-1)
    if gelu:
        active = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    else:
        active = gate / (1 + np.exp(-gate))
    return _as(_as(active, name) * up, name)


def _normalised(rows: Array, weight: Array, unit: bool, epsilon: float, name: str) -> Array:
    wide = rows.astype(np.float32).astype(np.float64)
    scaled = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + epsilon)
    if unit:
        return _as(scaled * (1 + weight.astype(np.float64)), name)
    return _as(_as(scaled.astype(np.float32), name).astype(np.float64) * weight, name)


def _as(values: Array, name: str) -> Array:
    """Rounded to the type of this name."""
    return values.astype(np.float64) if name == "float64" else rounded(values.astype(np.float32), name)
