"""The reference of `tree_attention`, in numpy: every row and head by itself, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels import arguments
from edgespec.kernels.attention_plan import PAGE, AttentionPlan


def tree_attention(
    query: Any, keys: Any, values: Any, plan: AttentionPlan, scale: float, softcap: float, sinks: Any
) -> NDArray[Any]:
    """As edgespec.kernels.tree_attention, whose checks have passed: float32 or float64 [R, H, v], rounded to the type
    of `query`."""
    dtype = arguments.dtype_name(query)
    q, k, v = (arguments.widened(one).astype(np.float64) for one in (query, keys, values))
    rows, heads = q.shape[:2]
    share = heads // len(k)
    output = np.zeros((rows, heads, v.shape[-1]))
    beside = np.full(heads, -np.inf) if sinks is None else arguments.widened(sinks).astype(np.float64)
    for row, slots in enumerate(seen_slots(plan, rows, share)):
        for head in range(heads if len(slots) else 0):
            scores = k[head // share, slots] @ q[row, head] * scale
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            weights = np.exp(scores - max(scores.max(), beside[head]))
            sink = np.exp(beside[head] - max(scores.max(), beside[head]))
            output[row, head] = weights @ v[head // share, slots] / (weights.sum() + sink)
    return output if dtype == "float64" else arguments.rounded(output.astype(np.float32), dtype)


def seen_slots(plan: AttentionPlan, rows: int, share: int) -> list[NDArray[np.int64]]:
    """The pool's slots that each row sees."""
    pages, words, items, tiles, counts = (
        arguments.raw(one) for one in (plan.pages, plan.words, plan.items, plan.tiles, plan.counts)
    )
    seen: list[list[int]] = [[] for _ in range(rows)]
    for first, end, first_item, splits in tiles[: counts[1]].tolist():
        for _, _, page, count, number in items[first_item : first_item + splits].tolist():
            for row in range(
                -(-first // share), -(-end // share)
            ):  # a row that two tiles share is the first one's
                for own in range(count):
                    pair = words[row, 2 * (number + own) : 2 * (number + own) + 2].copy()
                    bits = np.flatnonzero(np.unpackbits(pair.view(np.uint8), bitorder="little"))
                    seen[row] += (int(pages[page + own]) * PAGE + bits).tolist()
    return [np.array(slots, dtype=np.int64) for slots in seen]
