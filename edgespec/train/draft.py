"""The draft: a small model distilled from the target's distributions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from edgespec.model.guesses import scaled
from edgespec.train.lessons import Lessons
from edgespec.train.packing import Batches
from edgespec.train.stage import Stage
from edgespec.train.teacher import Lesson, Teacher, head_logits


class DraftStage(Stage):
    """Distillation of a draft. rate_share: as of any stage."""

    def __init__(
        self,
        model: Any,
        teacher: Teacher,
        batches: Batches,
        lessons: Lessons,
        context: int,
        *,
        rate_share: float,
        accumulate: int = 1,
    ) -> None:
        model = model.to(teacher.device)
        super().__init__("draft", model, batches, context, rate_share=rate_share, accumulate=accumulate)
        self._teacher = teacher
        self._lessons = lessons

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        taught = self._lessons.draw(length)
        classes = taught.classes
        if classes is not None:  # embeddings may be padded to different sizes
            classes = classes[classes < len(self.model.get_output_embeddings().weight)]
        with self._teacher.autocast():
            logits = draft_logits(self.model, taught.batch, taught.places, classes)
        wanted = self._teacher.logits(taught.final, classes)
        shared = min(wanted.shape[-1], logits.shape[-1])
        return [Lesson.of(wanted[:, :shared]).divergence(logits[:, :shared])], taught.batch.numel()


def draft_logits(
    model: Any, batch: torch.Tensor, places: torch.Tensor, classes: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits [R, V] behind `places` int64 [R] among the B · L ids of `batch` [B, L]. classes: of these tokens only."""
    rows = model.get_decoder()(input_ids=batch, use_cache=False).last_hidden_state.flatten(0, 1)
    config = model.config.get_text_config()
    return scaled(head_logits(model.get_output_embeddings(), rows[places], classes), config)
