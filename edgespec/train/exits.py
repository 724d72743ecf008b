"""The exit heads: low-rank adapters on a frozen target, distilled from its last layer's distribution.

All heads learn from the same forward of the target; each sees the raw hidden rows after its layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.model.exits import ExitHead, adapt
from edgespec.train.lessons import Lessons, Taught
from edgespec.train.packing import Batches
from edgespec.train.stage import Stage
from edgespec.train.teacher import Lesson, Teacher

SHARES = (1 / 4, 1 / 3, 1 / 2, 2 / 3)
"""Of the target's depth: where exits sit unless told otherwise."""

LEAST_RANK, MOST_RANK = 16, 512


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
    """Distillation of every exit head at once."""

    def __init__(
        self,
        teacher: Teacher,
        batches: Batches,
        lessons: Lessons,
        context: int,
        layers: Sequence[int],
        rank: int,
        accumulate: int = 1,
    ) -> None:
        self.layers = tuple(layers)
        self._teacher = teacher
        self._lessons = lessons
        self._adapters = [Adapter(teacher.width, rank, teacher.final_norm()) for _ in self.layers]
        heads = torch.nn.ModuleList(self._adapters).to(teacher.device)
        super().__init__("exits", heads, batches, context, matrix_rate=0.005, accumulate=accumulate)

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        taught = self._lessons.draw(length)
        return self._losses(taught), taught.batch.numel()

    def _losses(self, taught: Taught) -> Iterator[torch.Tensor]:
        classes = taught.classes
        lesson = Lesson.of(self._teacher.logits(taught.final, classes))
        for layer, adapter in zip(self.layers, self._adapters, strict=True):
            with self._teacher.autocast():
                normed = adapter.forward(taught.taps[layer].float(), self._teacher.norm_epsilon)
                loss = lesson.divergence(self._teacher.logits(normed, classes)) / len(self.layers)
            yield loss

    def heads(self) -> dict[int, ExitHead]:
        """The trained heads by layer, in bfloat16, not yet calibrated."""
        return {
            layer: ExitHead(_narrow(one.down), _narrow(one.up), _narrow(one.norm), Calibration({}))
            for layer, one in zip(self.layers, self._adapters, strict=True)
        }


def exit_layers(text: str | None, depth: int) -> tuple[int, ...]:
    """The layers that "4,8,0.5" names, numbers below 1 being shares of the depth; None: SHARES. Raises
    EdgespecError."""
    try:
        numbers = SHARES if text is None else tuple(float(one) for one in text.split(","))
        layers = sorted({max(1, round(one * depth)) if 0 < one < 1 else int(one) for one in numbers})
    except (ValueError, OverflowError):
        layers = []
    if depth < 2:
        raise EdgespecError("the target has one layer only: there is none to exit after.")
    if not layers or not all(0 < one < depth for one in layers):
        raise EdgespecError(
            f"--layers takes numbers from 1 to {depth - 1}, the target's last layer but one, or shares of its depth "
            f"such as 0.25,0.5, not {text!r}."
        )
    return tuple(layers)


def exit_rank(rank: int | None, width: int) -> int:
    """A rank from the target's width, unless one is given: a fifth of it, as a power of two."""
    return rank or min(MOST_RANK, max(LEAST_RANK, 1 << round(width / 5).bit_length()))


def _narrow(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.detach().to("cpu", torch.bfloat16)
