"""One thing to train: its weights, its optimisers, and what a step's losses are.

The optimiser is Muon (Jordan et al., 2024) for matrices and AdamW for the rest. torch's Muon computes in bfloat16;
before torch 2.9, and on CPUs that are not faster in it, ours computes in float32. After 100 seconds of the
bundled target on three cores the held-out loss was 5.4 nats with Muon (at rates from 0.005 to 0.02) and 6.3 with AdamW
alone; over ten minutes a rate of 0.01 came to a halt at 4.5 where 0.004 went on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

import torch

from edgespec.train.muon import Float32Muon
from edgespec.train.teacher import fast_bfloat16

OTHER_RATE = 0.003
WEIGHT_DECAY = 0.05
MOST_GRADIENT = 1.0


class Resumable(Protocol):
    """A source of batches that can go on later."""

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


class Stage(ABC):
    """title: for the progress bar. model: what is trained. context: tokens of the longest window. rate_share: of the
    learning rates, for weights that are not drawn at random. accumulate: batches of one update."""

    def __init__(
        self,
        title: str,
        model: torch.nn.Module,
        batches: Resumable,
        context: int,
        *,
        matrix_rate: float = 0.004,
        rate_share: float = 1.0,
        accumulate: int = 1,
    ) -> None:
        self.title = title
        self.model: Any = model
        self.batches = batches
        self._context = context
        self._accumulate = accumulate
        self._optimizers = _optimizers(model, matrix_rate * rate_share, OTHER_RATE * rate_share)
        self._peaks = [[group["lr"] for group in one.param_groups] for one in self._optimizers]

    @abstractmethod
    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        """The losses of a batch of windows of this length, whose sum is learnt, and how many tokens it has."""

    def step(self, fraction: float) -> tuple[float, int]:
        """One update at this fraction of the budget; returns the loss and the tokens seen. Each loss is freed before
        the next is computed."""
        total, tokens = 0.0, 0
        for _ in range(self._accumulate):
            losses, seen = self.losses(window(fraction, self._context))
            tokens += seen
            for loss in losses:
                torch.autograd.backward(loss / self._accumulate)
                total += float(loss.detach()) / self._accumulate
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MOST_GRADIENT)
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate_share(fraction)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total, tokens

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "batches": self.batches.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.batches.restore(state["batches"])


def rate_share(fraction: float, warm_up: float = 0.02, hold: float = 0.35) -> float:
    """Share of the peak learning rate after `fraction` of the budget: a short rise, a plateau, a line to zero."""
    if fraction < warm_up:
        return max(fraction, 0.001) / warm_up
    return 1.0 if fraction < hold else max(0.0, (1.0 - fraction) / (1.0 - hold))


def window(fraction: float, context: int) -> int:
    """Tokens a window after this fraction of the budget: short ones first, then up to the whole context, so that the
    context that the model claims is one that it has seen."""
    return context if fraction > 0.88 else context // 2 if fraction > 0.6 else context // 4


def _optimizers(model: torch.nn.Module, matrix_rate: float, other_rate: float) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if is_matrix else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices and not (hasattr(torch.optim, "Muon") and fast_bfloat16(matrices[0].device)):
        optimizers.append(Float32Muon(matrices, lr=matrix_rate, weight_decay=WEIGHT_DECAY))
    elif matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices, lr=matrix_rate, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
            )
        )
    if others:
        optimizers.append(torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0))
    return optimizers
