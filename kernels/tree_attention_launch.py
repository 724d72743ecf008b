"""Launches tree_attention on CUDA; its checks have passed."""

from __future__ import annotations

from functools import lru_cache

import torch

from edgespec.kernels.attention_plan import ENOUGH_JOBS, AttentionPlan
from edgespec.kernels.launching import launch, power_of_2
from edgespec.kernels.variants import JOINED, LEAST_WIDTH, slots_at_once

MOST_PROGRAMS = 2 * ENOUGH_JOBS
"""Of a launch: each takes jobs until none is left."""


def tree_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    plan: AttentionPlan,
    scale: float,
    softcap: float,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """As edgespec.kernels.tree_attention."""
    device = query.device
    rows, heads, key_width = query.shape
    kv_heads, pool_slots, value_width = values.shape
    share, tile_queries, most = heads // kv_heads, plan.tile_queries, len(plan.items)
    if sinks is None:
        sinks = _no_sinks(heads, device)
    parts = most * kv_heads * tile_queries
    sums = torch.empty(parts, value_width, device=device)
    tops = torch.empty(parts, 2, device=device)
    output = torch.empty(rows, heads, value_width, dtype=query.dtype, device=device)
    width = max(LEAST_WIDTH, power_of_2(max(key_width, value_width)))
    launch(
        "tree_attention_parts",
        min(MOST_PROGRAMS, max(1, most * kv_heads)),
        [query, keys, values, plan.pages, plan.words, plan.items, plan.counts, sums, tops,
         plan.words.shape[1], pool_slots, share, kv_heads, key_width, value_width, tile_queries,
         float(scale), float(softcap)],
        {"QUERIES": tile_queries, "WIDTH": width, "SLOTS": slots_at_once(width, query.dtype.itemsize)},
        device,
    )  # fmt: skip
    pieces = -(-tile_queries // JOINED)
    launch(
        "tree_attention_join",
        min(MOST_PROGRAMS, max(1, len(plan.tiles) * kv_heads * pieces)),
        [sums, tops, sinks, plan.tiles, plan.counts, output, share, kv_heads, value_width, tile_queries],
        {"WIDTH": width},
        device,
    )
    return output


@lru_cache
def _no_sinks(heads: int, device: torch.device) -> torch.Tensor:
    return torch.full((heads,), float("-inf"), device=device)
