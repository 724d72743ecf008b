"""Attention of draft trees over pages: the queries of a ragged batch of sessions read keys and values where the pool
has them, and a bit for each slot says which are a row's ancestors.

The backends are tree_attention_reference.py, tree_attention_cpu.py and, for CUDA, tree_attention_launch.py with
tree_attention_triton.py. attention_plan.py makes the plan.
"""

from __future__ import annotations

from typing import Any

from edgespec.kernels import arguments, tree_attention_reference
from edgespec.kernels.attention_plan import PAGE, AttentionPlan, check_plan

DTYPES = ("float32", "bfloat16", "float16", "float64")


def tree_attention(
    query: Any,
    keys: Any,
    values: Any,
    plan: AttentionPlan,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Any = None,
    backend: str = "auto",
) -> Any:
    """What each row's heads read: [R, H, v] of the type of `query`; zeros for a row that sees nothing.

    query: [R, H, d]. keys [G, S, d] and values [G, S, v]: the whole pool of one layer, S a multiple of 64; H is a
    multiple of G, and heads h with the same h // (H / G) share a key head. All three are contiguous and of one dtype of
    DTYPES (float64 not in Triton), or keys and values are 8-bit floats, which count as what they say. Sums are in
    float32, in float64 for float64. plan: on the device of `query`.
    softcap: scores become softcap · tanh(score / softcap); 0: they stay. sinks: float32 [H], a score of each head that
    takes its share and gives nothing. Every slot of the plan's pages must hold finite numbers. The result is the same
    bits in every run of the same plan. backend as in exit_head. Raises EdgespecError for an argument that does not fit.
    """
    arguments.matrix("query", query, ("R", "H", "d"), DTYPES)
    rows, heads, width = query.shape
    dtype = arguments.dtype_name(query)
    arguments.matrix("keys", keys, ("G", "S", width), (dtype, arguments.FLOAT8))
    groups, slots = keys.shape[:2]
    arguments.matrix("values", values, (groups, slots, "v"), (arguments.dtype_name(keys),))
    arguments.require(heads % groups == 0, "query heads", f"a multiple of {groups}", heads)
    arguments.require(slots % PAGE == 0, "the pool's slots", f"a multiple of {PAGE}", slots)
    check_plan(plan, rows, heads // groups)
    if sinks is not None:
        arguments.matrix("sinks", sinks, (heads,), ("float32",))
    chosen = arguments.choose_backend(backend, query)
    if chosen == "reference":
        return tree_attention_reference.tree_attention(query, keys, values, plan, scale, softcap, sinks)
    if chosen == "cpu":
        from edgespec.kernels import tree_attention_cpu  # imports torch

        return tree_attention_cpu.tree_attention(query, keys, values, plan, scale, softcap, sinks)
    arguments.require(dtype != "float64", "query", "float32 or a half", "float64", "convert it")
    from edgespec.kernels import tree_attention_launch  # imports torch

    return tree_attention_launch.tree_attention(query, keys, values, plan, scale, softcap, sinks)
