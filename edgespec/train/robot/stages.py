"""The stages of the driving target: the encoder sees, then the whole model answers; and of its drafts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from edgespec.train.robot.conversation import Batch, Conversations, answer_logits
from edgespec.train.robot.lessons import Scene, Scenes
from edgespec.train.robot.sight import CellHead, seen_by
from edgespec.train.stage import Stage


class SightStage(Stage):
    """The encoder learns what each cell shows, and where that is."""

    def __init__(self, visual: Any, head: CellHead, scenes: Scenes, pictures: int = 32) -> None:
        super().__init__("sight", torch.nn.ModuleDict({"visual": visual, "head": head}), scenes, 0)
        self._visual, self._head, self._scenes, self._pictures = visual, head, scenes, pictures

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        scenes = self._scenes.next(self._pictures)
        return [self._head.loss(seen_by(self._visual, scenes), _cells(scenes))], len(scenes)


class AnswerStage(Stage):
    """The whole model learns answers, `asked` of each picture; the encoder goes on learning cells.

    teacher: the target whose distributions a draft learns; None: the answers themselves are learnt. blind: the model
    sees nothing, as a draft of text alone does.
    """

    SIGHT_SHARE = 0.3
    """Of the cells' loss."""

    PICTURES, ASKED = 16, 3

    def __init__(
        self,
        model: Any,
        head: CellHead,
        conversations: Conversations,
        scenes: Scenes,
        *,
        teacher: Any = None,
        blind: bool = False,
    ) -> None:
        super().__init__("answers", torch.nn.ModuleDict({"model": model, "head": head}), scenes, 0)
        self._model, self._head, self._conversations, self._scenes = model, head, conversations, scenes
        self._teacher, self._blind = teacher, blind

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        scenes = self._scenes.next(self.PICTURES)
        batch = self._conversations.batch(
            [self._scenes.ask(scene) for scene in scenes for _ in range(self.ASKED)]
        )
        loss = torch.zeros(())
        features = None
        if not self._blind:
            features = seen_by(self._model.model.visual, scenes)
            loss = self.SIGHT_SHARE * self._head.loss(features, _cells(scenes))
            features = features.repeat_interleave(self.ASKED, 0)
        logits = answer_logits(self._model, batch, features)
        return [loss + self._answer_loss(logits, batch, scenes)], len(batch.ids)

    def _answer_loss(self, logits: torch.Tensor, batch: Batch, scenes: Sequence[Scene]) -> torch.Tensor:
        if self._teacher is None:
            return torch.nn.functional.cross_entropy(logits, batch.wanted)
        with torch.no_grad():
            seen = seen_by(self._teacher.model.visual, scenes).repeat_interleave(self.ASKED, 0)
            wanted = answer_logits(self._teacher, batch, seen).log_softmax(-1)
        return torch.nn.functional.kl_div(
            logits.log_softmax(-1), wanted, reduction="batchmean", log_target=True
        )


def _cells(scenes: Sequence[Scene]) -> list[Any]:
    return [scene.cells for scene in scenes]
