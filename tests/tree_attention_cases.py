"""Cases of tree_attention: sessions of random trees whose pages lie anywhere in a pool that holds other things too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.kernels.attention_plan import PAGE, AttentionPlan, HeadGroups, SessionPages


@dataclass(frozen=True)
class Shape:
    """rows and text: of each session, the rows of this forward and the tokens before them. pool: the type of keys and
    values; None: that of the queries."""

    rows: tuple[int, ...]
    text: tuple[int, ...]
    heads: int = 4
    kv_heads: int = 2
    width: int = 16
    value_width: int = 16
    window: int | None = None
    softcap: float = 0.0
    sinks: bool = False
    dtype: str = "float32"
    pool: str | None = None
    tile_queries: int | None = None

    @property
    def groups(self) -> HeadGroups:
        return HeadGroups(self.heads // self.kv_heads, self.kv_heads)


OF_ONE_TYPE = {
    "one row": Shape((1,), (5,)),
    "trees of several sessions": Shape((3, 1, 7), (200, 10, 64)),
    "one head a group": Shape((5,), (100,), kv_heads=4),
    "all heads in one group": Shape((5, 2), (70, 3), heads=6, kv_heads=1),
    "a group of three, in several tiles": Shape((9, 2), (20, 300), heads=6, tile_queries=16),
    "a prompt": Shape((70,), (0,), heads=2, kv_heads=1, tile_queries=64),
    "a prompt's next rows beside a tree": Shape((20, 4), (130, 70), kv_heads=4, tile_queries=16),
    "widths that are no powers of 2": Shape((6,), (90,), width=12, value_width=20),
    "a sliding window": Shape((4, 9), (300, 20), window=70),
    "soft caps": Shape((4,), (90,), softcap=2.0),
    "sinks": Shape((4, 3), (90, 9), sinks=True),
    "a window with soft caps and sinks": Shape((9,), (190,), window=33, softcap=3.0, sinks=True),
    "wide heads": Shape((3,), (70,), heads=2, kv_heads=1, width=130, value_width=130),
    "bfloat16": Shape((3, 5), (200, 10), dtype="bfloat16"),
    "float16": Shape((3, 5), (200, 10), dtype="float16"),
    "float16, all at once": Shape((9, 3), (190, 5), window=33, softcap=3.0, sinks=True, dtype="float16"),
}

CASES = OF_ONE_TYPE | {
    f"{name}, 8-bit pool": replace(shape, pool="float8_e4m3fn") for name, shape in OF_ONE_TYPE.items()
}


def seen_by(random: np.random.Generator, rows: int, text: int, window: int | None) -> NDArray[np.bool_]:
    """Which slots the rows of a random tree behind a text see; slots are shuffled, positions are not."""
    slots = random.permutation(text + rows)
    ancestors = np.zeros((rows, text + rows), np.bool_)
    ancestors[:, :text] = True
    depths = np.zeros(rows, np.int64)
    for row in range(rows):
        parent = row - 1 if random.random() < 0.6 else int(random.integers(-1, row)) if row else -1
        if parent >= 0:
            ancestors[row] = ancestors[parent]
            depths[row] = depths[parent] + 1
        ancestors[row, text + row] = True
    positions = np.concatenate([np.arange(text), text + depths])
    if window is not None:
        ancestors &= positions[None, :] > (text + depths)[:, None] - window
    seen = np.zeros_like(ancestors)
    seen[:, slots] = ancestors
    return seen


def inputs_of(shape: Shape, seed: int = 0) -> tuple[list[SessionPages], dict[str, Any]]:
    """The sessions, and the arguments of tree_attention but the plan."""
    random = np.random.default_rng(seed)
    counts = [-(-(rows + text) // PAGE) for rows, text in zip(shape.rows, shape.text, strict=True)]
    places = random.permutation(sum(counts) + 2)[: sum(counts)]
    sessions = [
        SessionPages(own, seen_by(random, rows, text, shape.window))
        for own, rows, text in zip(
            np.split(places, np.cumsum(counts)[:-1]), shape.rows, shape.text, strict=True
        )
    ]
    slots = (sum(counts) + 2) * PAGE

    def normal(dtype: str, *size: int) -> torch.Tensor:
        return torch.from_numpy(random.normal(size=size)).to(getattr(torch, dtype))

    return sessions, {
        "query": normal(shape.dtype, sum(shape.rows), shape.heads, shape.width),
        "keys": normal(shape.pool or shape.dtype, shape.kv_heads, slots, shape.width),
        "values": normal(shape.pool or shape.dtype, shape.kv_heads, slots, shape.value_width),
        "scale": shape.width**-0.5,
        "softcap": shape.softcap,
        "sinks": torch.from_numpy(random.normal(size=shape.heads)).float() if shape.sinks else None,
    }


def plan_of(shape: Shape, sessions: list[SessionPages]) -> AttentionPlan:
    """As tensors."""
    return AttentionPlan.of(sessions, shape.groups, shape.tile_queries).on(torch.device("cpu"))
