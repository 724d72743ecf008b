"""The draft: a Llama of under a million weights distilled from the target's distributions.

The target's forward is most of a step's cost, so every teacher batch is learnt from several times, each time among
other batches: a small pool of batches with the target's final rows is kept and drawn from."""

from __future__ import annotations

import numpy as np
import torch

from edgespec.train.packing import Stream
from edgespec.train.stage import Stage
from edgespec.train.target import Shape, build
from edgespec.train.teacher import Lesson, Teacher

DRAFT_SHAPE = Shape(layers=2, width=128, heads=4, key_value_heads=2, inner=352)

POOL_BATCHES = 96
USES_A_BATCH = 3


class DraftStage(Stage):
    """Distillation of a draft over the training split. A resumed run fills a new pool."""

    def __init__(
        self, shape: Shape, teacher: Teacher, stream: Stream, seed: int, tokens_a_step: int = 2048
    ) -> None:
        model = build(shape, seed)
        super().__init__(
            "draft", model, stream, seed=seed + 1, tokens_a_step=tokens_a_step, context=shape.context
        )
        self._teacher = teacher
        self._pool: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._random = np.random.default_rng(seed)
        self._steps = 0

    def step(self, fraction: float) -> tuple[float, int]:
        batch, rows = self._draw(fraction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(input_ids=batch, use_cache=False).logits
        loss = Lesson.of(self._teacher.logits(rows)).divergence(logits)
        return self.learn([loss], fraction), batch.numel()

    def _draw(self, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch and the teacher's rows for it: every few steps a new one replaces the pool's oldest."""
        if self._steps % USES_A_BATCH == 0:
            batch = self.next_batch(fraction)
            self._pool = [*self._pool[-POOL_BATCHES + 1 :], (batch, self._teacher.hidden(batch)[0])]
        self._steps += 1
        return self._pool[int(self._random.integers(len(self._pool)))]
