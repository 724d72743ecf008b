"""What the driving models learn: the encoder to see, the whole model to answer, and a draft of text alone to guess."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from edgespec.train.robot.conversation import Batch, Conversations, answer_logits, text_logits
from edgespec.train.robot.lessons import CellLabels, Scene, Scenes
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
    """The whole model learns answers, ASKED of each picture; the encoder goes on learning cells.

    teacher: the target whose distributions a draft learns; None: the answers themselves are learnt.
    """

    SIGHT_SHARE = 0.5
    """Of the cells' loss."""

    PICTURES, ASKED = 24, 2

    def __init__(
        self, model: Any, head: CellHead, conversations: Conversations, scenes: Scenes, teacher: Any = None
    ) -> None:
        super().__init__("answers", torch.nn.ModuleDict({"model": model, "head": head}), scenes, 0)
        self._model, self._head, self._conversations, self._scenes = model, head, conversations, scenes
        self._teacher = teacher

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        scenes = self._scenes.next(self.PICTURES)
        batch = self._conversations.batch(ask(self._scenes, scenes, self.ASKED))
        features = seen_by(self._model.model.visual, scenes)
        loss = self.SIGHT_SHARE * self._head.loss(features, _cells(scenes))
        logits = answer_logits(self._model, batch, features.repeat_interleave(self.ASKED, 0))
        if self._teacher is None:
            loss = loss + torch.nn.functional.cross_entropy(logits, batch.wanted)
        else:
            loss = loss + divergence(logits, taught(self._teacher, batch, scenes, self.ASKED))
        return [loss], len(batch.ids)


class BlindStage(Stage):
    """A draft of text alone learns the target's distributions, with a picture's rows as tokens and without them."""

    PICTURES, ASKED = 12, 4

    def __init__(self, model: Any, teacher: Any, conversations: Conversations, scenes: Scenes) -> None:
        super().__init__("blind", model, scenes, 0)
        self._teacher, self._conversations, self._scenes = teacher, conversations, scenes

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        scenes = self._scenes.next(self.PICTURES)
        asked = ask(self._scenes, scenes, self.ASKED)
        whole, bare = self._conversations.batch(asked), self._conversations.batch(asked, cells=0)
        wanted = taught(self._teacher, whole, scenes, self.ASKED)
        losses = (0.5 * divergence(text_logits(self.model, batch), wanted) for batch in (whole, bare))
        return losses, len(asked)


def ask(source: Scenes, scenes: Sequence[Scene], times: int) -> list[tuple[str, str]]:
    """Requests and answers, `times` of them for each scene."""
    return [source.ask(scene) for scene in scenes for _ in range(times)]


@torch.no_grad()
def taught(teacher: Any, batch: Batch, scenes: Sequence[Scene], asked: int) -> torch.Tensor:
    """The target's logarithmic probabilities [N, V] of a batch's answers."""
    features = seen_by(teacher.model.visual, scenes).repeat_interleave(asked, 0)
    return answer_logits(teacher, batch, features).log_softmax(-1)


def divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Of the distributions of `logits` from `wanted`, in nats a row."""
    return torch.nn.functional.kl_div(logits.log_softmax(-1), wanted, reduction="batchmean", log_target=True)


def _cells(scenes: Sequence[Scene]) -> list[CellLabels]:
    return [scene.cells for scene in scenes]
