"""The draft: a Llama of under a million weights distilled from the target's distributions.

The target's forward is most of a step's cost, so every teacher batch is learnt from several times, each
time among other batches: a small pool of batches with the target's final rows is kept and drawn from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgespec.train.optimizer import PairedOptimizer, rate_share
from edgespec.train.packing import Batches, Stream
from edgespec.train.target import Shape, build, window
from edgespec.train.teacher import Lesson, Teacher

DRAFT_SHAPE = Shape(layers=2, width=128, heads=4, key_value_heads=2, inner=352)

POOL_BATCHES = 96
USES_A_BATCH = 3


class DraftStage:
    """Distillation of a draft from a teacher over the training split (a `loop.Stage`)."""

    title = "draft"

    def __init__(
        self, shape: Shape, teacher: Teacher, stream: Stream, seed: int, tokens_a_step: int = 2048
    ) -> None:
        self.model = build(shape, seed)
        self._teacher = teacher
        self._optimizer = PairedOptimizer(self.model.named_parameters())
        self._batches = Batches(stream, tokens_a_step, seed + 1)
        self._context = shape.context
        self._pool: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._random = np.random.default_rng(seed)
        self._steps = 0

    def step(self, fraction: float) -> tuple[float, int]:
        batch, rows = self._draw(fraction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(input_ids=batch, use_cache=False).logits
        loss = Lesson.of(self._teacher.logits(rows)).divergence(logits)
        torch.autograd.backward(loss)
        self._optimizer.step(rate_share(fraction))
        return float(loss.detach()), batch.numel()

    def _draw(self, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch and the teacher's rows for it: every few steps a new one replaces the pool's oldest."""
        if self._steps % USES_A_BATCH == 0:
            batch = torch.from_numpy(self._batches.next(window(fraction, self._context)))
            self._pool = [*self._pool[-POOL_BATCHES + 1 :], (batch, self._teacher.hidden(batch)[0])]
        self._steps += 1
        return self._pool[int(self._random.integers(len(self._pool)))]

    def state(self) -> dict[str, Any]:
        """The pool is left out: a resumed run fills a new one."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state(),
            "batches": self._batches.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._optimizer.restore(state["optimizer"])
        self._batches.restore(state["batches"])
