"""The exit heads: low-rank adapters on a frozen target, distilled from its last layer's distribution.

All heads learn from the same forward of the target; each sees the raw hidden rows after its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgespec.core.calibration import Calibration
from edgespec.model.exits import ExitHead, adapt
from edgespec.train.optimizer import PairedOptimizer, rate_share
from edgespec.train.packing import Batches, Stream
from edgespec.train.target import window
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


class ExitStage:
    """Distillation of every exit head at once over the training split (a `loop.Stage`)."""

    title = "exits"

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
        self.adapters = {layer: Adapter(teacher.width, rank, teacher.final_norm()) for layer in self.layers}
        named = torch.nn.ModuleList(self.adapters.values()).named_parameters()
        self._teacher = teacher
        self._optimizer = PairedOptimizer(named, matrix_rate=0.005)
        self._context = teacher.model.config.max_position_embeddings
        self._batches = Batches(stream, tokens_a_step, seed + 2)

    def step(self, fraction: float) -> tuple[float, int]:
        batch = torch.from_numpy(self._batches.next(window(fraction, self._context)))
        rows, taps = self._teacher.hidden(batch, self.layers)
        lesson = Lesson.of(self._teacher.logits(rows))
        total = 0.0
        for layer in self.layers:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                normed = self.adapters[layer].forward(taps[layer].float(), self._teacher.norm_epsilon)
                loss = lesson.divergence(self._teacher.logits(normed)) / len(self.layers)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        self._optimizer.step(rate_share(fraction))
        return total, batch.numel()

    def head(self, layer: int) -> ExitHead:
        """The trained head of `layer` in bfloat16, not yet calibrated."""
        adapter = self.adapters[layer]
        down, up, norm = (
            part.detach().to(torch.bfloat16) for part in (adapter.down, adapter.up, adapter.norm)
        )
        return ExitHead(down, up, norm, Calibration({}))

    def state(self) -> dict[str, Any]:
        return {
            "adapters": {layer: adapter.state_dict() for layer, adapter in self.adapters.items()},
            "optimizer": self._optimizer.state(),
            "batches": self._batches.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        for layer, adapter in self.adapters.items():
            adapter.load_state_dict(state["adapters"][layer])
        self._optimizer.restore(state["optimizer"])
        self._batches.restore(state["batches"])
