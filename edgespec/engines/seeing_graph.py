"""The graph of a draft that sees: that of draft_graph.py, with rows that are a picture's and positions on three axes.

The vision encoder is a graph of its own (vision_graph.py). What it makes of a picture comes in with the rows that the
picture takes, so a run of text alone costs no more than that of a text-only draft.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgespec.engines.draft_graph import DraftGraph, UnlikeLlama, language_body, take
from edgespec.tensorrt_engines.draft_shape import EyesShape

AXES = 3
"""Time, row and column."""


class SeeingGraph(DraftGraph):
    """model: a transformers vision-language model in float32 whose decoder turns rows as Qwen2-VL does. eyes: its
    vision encoder's sizes. The rest: see `DraftGraph`. Raises UnlikeLlama."""

    axes: Tensor

    def __init__(self, model: nn.Module, eyes: EyesShape, capacity: int, **types: Any) -> None:
        super().__init__(model, capacity, **types)
        self.shape = replace(self.shape, eyes=eyes)
        if eyes.features != self.embedding.shape[1]:
            raise UnlikeLlama(f"its vision encoder makes rows of {eyes.features} numbers")
        self.register_buffer("axes", _axes(language_body(model).config))

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        positions: Tensor,
        cached: Tensor,
        among: Tensor,
        decide: Tensor,
        noise: Tensor,
        noise_rows: Tensor,
        inverse_temperature: Tensor,
        pictured: Tensor,
        features: Tensor,
        cache: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `DraftGraph.forward`. positions: int32 [3, R], rotary positions. pictured: bool [R], the rows that read
        `features`, float32 [R, width], in place of their tokens' embeddings."""
        rotation = self._turned(self.cosines, positions), self._turned(self.sines, positions)
        hidden = torch.where(pictured.unsqueeze(1), features, take(self.embedding, tokens).float())
        new = self._through_layers(hidden, rotation, cached, among, cache)
        return self._choose(new, decide, noise, noise_rows, inverse_temperature)

    def _turned(self, table: Tensor, positions: Tensor) -> Tensor:
        """[R, 1, dim]: each number of a row from the axis that turns it."""
        parts = [take(table, positions[axis]) * self.axes[axis] for axis in range(AXES)]
        return (parts[0] + parts[1] + parts[2]).unsqueeze(1)


def _axes(config: Any) -> Tensor:
    """float32 [3, dim]: 1 where an axis turns that number of a head."""
    sections = (getattr(config, "rope_parameters", None) or {}).get("mrope_section")
    if not sections or len(sections) != AXES:
        raise UnlikeLlama("its config has no mrope_section of three axes")
    axis = torch.cat([torch.full((count,), number) for number, count in enumerate(sections)])
    return nn.functional.one_hot(torch.cat([axis, axis]), AXES).T.float()
