"""What a forward of the target costs on a GPU by counting: weights, the keys and values that attention reads, launches.

A model, no measurement, as in costs.py. The layers are lean ones (ten launches each) in a captured graph, behind one
copy of its inputs; attention is cut as its own plan cuts it. `edgespec kernels costs` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgespec.core.errors import EdgespecError
from edgespec.kernels.attention_plan import PAGE, AttentionPlan, HeadGroups, SessionPages
from edgespec.kernels.costs import COPY_US, GRAPH_LAUNCH_US, Gpu, exit_cost, head_bytes

LAUNCHES_A_LAYER = 10

LAUNCHES_OUTSIDE = 6
"""The layers: embedding, cosines, sines, the first norm, the rows that are decided and the LM head. Gemma scales and
caps too, and has two kinds of positions: up to four more."""

EXIT_LAUNCHES = 7
"""That the layers behind an exit wait for: five of its adapter, two of exit_head. The third is beside them."""

EXITS, ADAPTER_RANK = 3, 512
"""Of a target; the rank that `edgespec train exits` gives one of width 4096."""

ITEMSIZE = 2


@dataclass(frozen=True)
class Shape:
    """Of a decoder in 16 bits. inner: width of the MLP."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, config: dict[str, Any], name: str) -> Shape:
        """From a config.json. Raises EdgespecError where that has other names."""
        text = config.get("text_config", config)
        try:
            heads, width = int(text["num_attention_heads"]), int(text["hidden_size"])
            return cls(
                name, int(text["num_hidden_layers"]), width, heads, int(text.get("num_key_value_heads") or heads),
                int(text.get("head_dim") or width // heads), int(text["intermediate_size"]), int(text["vocab_size"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise EdgespecError(
                f"the config of {name} does not say its {error}: kernels are counted for decoders like Llama's."
            ) from None

    @property
    def weight_bytes(self) -> int:
        """That a forward reads: the layers and the LM head."""
        heads = (2 * self.heads + 2 * self.kv_heads) * self.head_width
        return ITEMSIZE * self.width * (self.layers * (heads + 3 * self.inner) + self.vocabulary)


LLAMA_2_7B = Shape("Llama-2-7B", 32, 4096, 32, 32, 128, 11008, 32000)


@dataclass(frozen=True)
class ForwardCost:
    """slots: behind which the rows are. kv_bytes: keys and values that attention reads, all layers. idle: the share of
    the GPU without work while it does. floor_us: the weights, once, at the data sheet's bandwidth. exits_us: what
    EXITS exits add, by the bits of the LM head that they read."""

    slots: int
    launches: int
    kv_bytes: int
    idle: float
    floor_us: float
    expected_us: float
    exits_us: Mapping[int, float]

    @property
    def over_floor(self) -> float:
        return self.expected_us / self.floor_us

    def exits_share(self, bits: int) -> float:
        """What exits add, as a share of the forward without them."""
        return self.exits_us[bits] / self.expected_us


def forward_cost(gpu: Gpu, shape: Shape, rows: int, slots: int, kv_itemsize: int = ITEMSIZE) -> ForwardCost:
    """One session of `rows` rows that see all of `slots` slots. kv_itemsize: of keys and values, 1 in 8 bits."""
    launches = LAUNCHES_A_LAYER * shape.layers + LAUNCHES_OUTSIDE
    kv_bytes, idle = attention_bytes(gpu, shape, rows, slots, kv_itemsize)
    floor = shape.weight_bytes / gpu.bytes_per_us
    waits = COPY_US + launches * GRAPH_LAUNCH_US
    reading = (shape.weight_bytes + kv_bytes / (1 - idle)) / gpu.reached_bytes_per_us
    exits = {bits: EXITS * exit_us(gpu, shape, rows, bits) for bits in (16, 8)}
    return ForwardCost(slots, launches, kv_bytes, idle, floor, waits + reading, exits)


def exit_us(gpu: Gpu, shape: Shape, rows: int, bits: int) -> float:
    """What an exit in a captured graph adds to the forward: adapter and LM head, counted as the layers are."""
    tail = exit_cost(gpu, rows, shape.vocabulary, shape.width, ITEMSIZE, bits).idle
    read = (
        head_bytes(shape.vocabulary, shape.width, bits) / (1 - tail)
        + 2 * ITEMSIZE * ADAPTER_RANK * shape.width
    )
    return EXIT_LAUNCHES * GRAPH_LAUNCH_US + read / gpu.reached_bytes_per_us


def attention_bytes(
    gpu: Gpu, shape: Shape, rows: int, slots: int, kv_itemsize: int = ITEMSIZE
) -> tuple[int, float]:
    """What tree_attention reads and passes on in all layers, and the share of the GPU that is idle meanwhile."""
    pages = -(-slots // PAGE)
    plan = AttentionPlan.of(
        [SessionPages(np.arange(pages), np.ones((rows, slots), bool))],
        HeadGroups.of(shape.heads, shape.kv_heads, ITEMSIZE),
    )
    items = plan.items[: plan.counts[0]]
    jobs = len(items) * shape.kv_heads
    read = int(items[:, 3].sum()) * PAGE * 2 * shape.head_width * kv_itemsize * shape.kv_heads
    passed = 2 * jobs * plan.tile_queries * (shape.head_width + 2) * 4  # written, then read
    turns = -(-jobs // gpu.processors)
    return shape.layers * (read + passed), 1 - jobs / (turns * gpu.processors)
