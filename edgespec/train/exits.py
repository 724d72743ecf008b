"""The exit heads: low-rank adapters on a frozen target, distilled from its last layer's distribution.

All heads learn from the same forward of the target; each sees the raw hidden rows after its layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from edgespec.core.calibration import Calibration
from edgespec.model.exits import ExitHead, adapt
from edgespec.train.packing import Stream
from edgespec.train.stage import Stage
from edgespec.train.teacher import Lesson, Teacher

EXIT_LAYERS = (4, 6, 8, 10)
RANK = 128


class Adapter(torch.nn.Module):
    """The trainable weights of one exit head; the adapter starts as the identity."""

    def __init__(self, width: int, rank: int, norm: torch.Tensor) -> None:
        super().__init__()
        self.down = torch.nn.Parameter(torch.randn(rank, width) * width**-0.5)
        self.up = torch.nn.Parameter(torch.zeros(width, rank))
        self.norm = torch.nn.Parameter(norm.detach().float().clone())

    def forward(self, hidden: torch.Tensor, epsilon: float) -> torch.Tensor:
        return adapt(hidden, self.down, self.up, self.norm, epsilon)


class ExitStage(Stage):
    """Distillation of every exit head at once over the training split."""

    def __init__(
        self,
        teacher: Teacher,
        stream: Stream,
        seed: int,
        layers: Sequence[int] = EXIT_LAYERS,
        rank: int = RANK,
        tokens_a_step: int = 2048,
    ) -> None:
        torch.manual_seed(seed)
        self.layers = tuple(layers)
        self._teacher = teacher
        self._adapters = [Adapter(teacher.width, rank, teacher.final_norm()) for _ in self.layers]
        super().__init__(
            "exits",
            torch.nn.ModuleList(self._adapters),
            stream,
            seed=seed + 2,
            tokens_a_step=tokens_a_step,
            context=teacher.model.config.max_position_embeddings,
            matrix_rate=0.005,
        )

    def step(self, fraction: float) -> tuple[float, int]:
        batch = self.next_batch(fraction)
        return self.learn(self._losses(batch), fraction), batch.numel()

    def _losses(self, batch: torch.Tensor) -> Iterator[torch.Tensor]:
        rows, taps = self._teacher.hidden(batch, self.layers)
        lesson = Lesson.of(self._teacher.logits(rows))
        for layer, adapter in zip(self.layers, self._adapters, strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                normed = adapter.forward(taps[layer].float(), self._teacher.norm_epsilon)
                loss = lesson.divergence(self._teacher.logits(normed)) / len(self.layers)
            yield loss

    def heads(self) -> dict[int, ExitHead]:
        """The trained heads by layer, in bfloat16, not yet calibrated."""
        return {
            layer: ExitHead(_narrow(one.down), _narrow(one.up), _narrow(one.norm), Calibration({}))
            for layer, one in zip(self.layers, self._adapters, strict=True)
        }


def _narrow(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().to(torch.bfloat16)
