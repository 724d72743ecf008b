"""A decoder layer's small steps between its matrix products and attention: residual and RMS norm, rotary positions and
the cache, gate and up.

Each is one kernel, where transformers' modules take two to ten. The backends are layer_reference.py, layer_cpu.py and,
for CUDA, layer_launch.py with layer_triton.py. Results are rounded where transformers' modules round.
"""

from __future__ import annotations

from typing import Any

from edgespec.kernels import layer_reference
from edgespec.kernels.arguments import FLOAT8, choose_backend, dtype_name, matrix, require
from edgespec.kernels.layer_data import HeadNorms, Norm

DTYPES = ("float32", "bfloat16", "float16", "float64")

WIDEST_NORM = 32768
"""Numbers of a row that a program holds at once."""


def residual_norm(
    added: Any, residual: Any, norm: Norm, *, post: Any = None, backend: str = "auto"
) -> tuple[Any, Any]:
    """(residual + added, the norm of that), both [R, D].

    residual: [R, D]. added: the same, or None: nothing is added. post: [D], the weight of a norm of `added` before it
    is added, with the epsilon and unit of `norm`; None: there is none. All are contiguous and of one dtype of DTYPES
    (float64 not in Triton). backend as in exit_head. Raises EdgespecError for an argument that does not fit.
    """
    matrix("residual", residual, ("R", "D"), DTYPES)
    rows, width = residual.shape
    same = (dtype_name(residual),)
    if added is not None:
        matrix("added", added, (rows, width), same)
    for name, weight in (("the norm's weight", norm.weight), ("post", post)):
        if weight is not None:
            matrix(name, weight, (width,), same)
    chosen = _chosen(backend, residual)
    if chosen == "reference":
        return layer_reference.residual_norm(added, residual, norm, post)
    if chosen == "cpu":
        from edgespec.kernels import layer_cpu  # imports torch

        return layer_cpu.residual_norm(added, residual, norm, post)
    require(width <= WIDEST_NORM, "D", f"at most {WIDEST_NORM}", width)
    from edgespec.kernels import layer_launch  # imports torch

    return layer_launch.residual_norm(added, residual, norm, post)


def rotary_write(
    qkv: Any,
    cosines: Any,
    sines: Any,
    slots: Any,
    keys: Any,
    values: Any,
    *,
    norms: HeadNorms | None = None,
    backend: str = "auto",
) -> Any:
    """The rows' queries [R, H, d], turned to their positions; their keys, turned too, and values go into the pool.

    qkv: [R, (H + 2 G) d], each row's queries, keys and values, head by head. cosines, sines: [R, d], of the rows'
    positions; d is even, and element i turns with i + d / 2. slots: int64 [R]. keys, values: [G, S, d], the pool of one
    layer; in the backend "reference" they stay as they are. norms: of queries and keys before they turn. All but slots
    are contiguous and of one dtype of DTYPES (float64 not in Triton), or the pool is of 8-bit floats: what is beyond
    their largest becomes that. backend as in exit_head. Raises EdgespecError for an argument that does not fit.
    """
    matrix("cosines", cosines, ("R", "d"), DTYPES)
    rows, width = cosines.shape
    same = (dtype_name(cosines),)
    matrix("sines", sines, (rows, width), same)
    matrix("keys", keys, ("G", "S", width), (*same, FLOAT8))
    matrix("values", values, tuple(keys.shape), (dtype_name(keys),))
    matrix("slots", slots, (rows,), ("int64",))
    matrix("qkv", qkv, (rows, "(H + 2 G) d"), same)
    heads = qkv.shape[1] // width - 2 * keys.shape[0]
    fits = qkv.shape[1] % width == 0 and heads >= 1 and width % 2 == 0
    require(fits, "qkv", f"[{rows}, (H + {2 * keys.shape[0]}) {width}], an even width", list(qkv.shape))
    chosen = _chosen(backend, qkv)
    if chosen == "reference":
        return layer_reference.rotary_write(qkv, cosines, sines, keys, norms)[0]
    if chosen == "cpu":
        from edgespec.kernels import layer_cpu  # imports torch

        return layer_cpu.rotary_write(qkv, cosines, sines, slots, keys, values, norms)
    from edgespec.kernels import layer_launch  # imports torch

    return layer_launch.rotary_write(qkv, cosines, sines, slots, keys, values, norms)


def gated(gate_up: Any, *, gelu: bool = False, backend: str = "auto") -> Any:
    """silu(gate) · up, [R, F]; gelu: its tanh form in place of silu.

    gate_up: [R, 2 F], contiguous, of a dtype of DTYPES (float64 not in Triton): gate, then up. backend as in exit_head.
    Raises EdgespecError for an argument that does not fit.
    """
    matrix("gate_up", gate_up, ("R", "2 F"), DTYPES)
    require(gate_up.shape[1] % 2 == 0, "gate_up's width", "even", gate_up.shape[1])
    chosen = _chosen(backend, gate_up)
    if chosen == "reference":
        return layer_reference.gated(gate_up, gelu)
    if chosen == "cpu":
        from edgespec.kernels import layer_cpu  # imports torch

        return layer_cpu.gated(gate_up, gelu)
    from edgespec.kernels import layer_launch  # imports torch

    return layer_launch.gated(gate_up, gelu)


def _chosen(backend: str, array: Any) -> str:
    chosen = choose_backend(backend, array)
    wide = chosen == "triton" and dtype_name(array) == "float64"
    require(not wide, "rows", "float32 or a half", "float64", "convert them")
    return chosen
