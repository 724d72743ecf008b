"""tree_attention on a CPU, in torch: each tile's pages gathered, its scores written out. Imports torch."""

from __future__ import annotations

import torch

from edgespec.kernels.attention_plan import PAGE, AttentionPlan
from edgespec.kernels.narrow_pool import take


def tree_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    plan: AttentionPlan,
    scale: float,
    softcap: float,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """As edgespec.kernels.tree_attention; in float32, in float64 for float64."""
    rows, heads, _ = query.shape
    groups = keys.shape[0]
    share = heads // groups
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    # [G, queries, d]: those that share a key head one after the other
    queries = query.view(rows, groups, share, -1).transpose(0, 1).reshape(groups, rows * share, -1).to(wide)
    output = queries.new_zeros(groups, rows * share, values.shape[-1])
    bits = torch.arange(32, dtype=torch.int32)
    pages, words, items = (torch.as_tensor(one) for one in (plan.pages, plan.words, plan.items))
    for first, end, item, splits in torch.as_tensor(plan.tiles)[: int(plan.counts[1])].tolist():
        start, column = items[item, 2].item(), items[item, 4].item()
        count = int(items[item : item + splits, 3].sum())
        if not count:
            continue
        slots = pages[start : start + count, None].long() * PAGE + torch.arange(PAGE)
        own = words[torch.arange(first, end) // share, 2 * column : 2 * (column + count)]
        seen = ((own[:, :, None] >> bits) & 1).view(end - first, -1) != 0
        k, v = (take(pool, 1, slots.view(-1), wide) for pool in (keys, values))
        scores = queries[:, first:end] @ k.transpose(1, 2) * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.masked_fill(~seen, float("-inf"))
        if sinks is not None:
            own_sinks = sinks.to(wide).view(groups, share)[:, torch.arange(first, end) % share, None]
            scores, v = torch.cat([scores, own_sinks], -1), torch.nn.functional.pad(v, (0, 0, 0, 1))
        output[:, first:end] = torch.softmax(scores, -1).nan_to_num(0.0) @ v
    return output.view(groups, rows, share, -1).transpose(0, 1).reshape(rows, heads, -1).to(query.dtype)
