"""How often a draft and the exits foresee what the target draws, on its own answers to held-out prompts.

Guessers score a text under the noise that it was drawn with, as edge and server do. Half of the answers fit the
calibrations, the other half gives every reported figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edgespec.core.calibration import Calibration
from edgespec.core.noise import NoiseRows
from edgespec.model.exits import ExitHead, adapt
from edgespec.train.answers import Answer
from edgespec.train.draft import draft_logits
from edgespec.train.progress import progress_bar
from edgespec.train.teacher import Teacher

RANKS = 4
"""How many of a guesser's best tokens are compared with the draw."""

TARGET = "target"

Scorer = Callable[[torch.Tensor, slice], Iterable[torch.Tensor]]
"""Ids int64 [1, L] and a slice of R rows -> for each guesser in turn its logits [R, V]."""


@dataclass(frozen=True)
class Sight:
    """A guesser against the target. margins float64 [N]; correct bool [N, ranks]: the rank-th best is drawn; lengths:
    of the texts, one after the other, that make up N."""

    margins: NDArray[np.float64]
    correct: NDArray[np.bool_]
    lengths: tuple[int, ...] = ()

    @property
    def rate(self) -> float:
        """How often the best guess is the target's draw."""
        return float(self.correct[:, 0].mean())

    def by_depth(self, most: int = 8) -> list[float]:
        """Of chains that were right so far, how many are right at depth 1, 2, ... too; where any are."""
        texts = np.split(self.correct[:, 0], np.cumsum(self.lengths)[:-1])
        alive, rates = [np.ones(len(text), dtype=np.bool_) for text in texts], []
        for depth in range(most):
            alive = [one[: len(text) - depth] for one, text in zip(alive, texts, strict=True)]
            before = sum(int(one.sum()) for one in alive)
            alive = [one & text[depth : depth + len(one)] for one, text in zip(alive, texts, strict=True)]
            if not before:
                break
            rates.append(sum(int(one.sum()) for one in alive) / before)
        return rates


@torch.no_grad()
def observe(
    score: Scorer, names: Sequence[str], answers: Iterable[Answer], vocabulary_size: int
) -> dict[str, Sight]:
    """How well each guesser, in the order of `names`, foresees the answers' tokens; what the first one draws instead,
    where that is named TARGET. vocabulary_size: the target's."""
    noise = NoiseRows(vocabulary_size, capacity=1)
    seen: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {name: [] for name in names}
    for answer in answers:
        text = torch.tensor(answer.text)
        first = len(answer.prompt)
        wanted = text[first:, None]
        for name, logits in zip(names, score(text[None], slice(first - 1, len(text) - 1)), strict=True):
            scores = logits.float().cpu()
            if answer.temperature:
                drawn, which = noise.rows(answer.seed, np.arange(first, len(text)))
                scores = scores / answer.temperature + torch.from_numpy(drawn[which])[:, : scores.shape[1]]
            best, ids = scores.topk(RANKS, dim=-1)
            margins = (best[:, 0] - best[:, 1]).double().numpy()
            wanted = ids[:, :1] if name == TARGET else wanted
            seen[name].append((margins, (ids == wanted).numpy()))
    return {
        name: Sight(
            np.concatenate([margins for margins, _ in parts]),
            np.concatenate([correct for _, correct in parts]),
            tuple(len(margins) for margins, _ in parts),
        )
        for name, parts in seen.items()
    }


def half(answers: Sequence[Answer], second: bool) -> dict[float, list[Answer]]:
    """Every other answer at each temperature: the first half fits, the second half judges."""
    temperatures = sorted({one.temperature for one in answers})
    return {
        temperature: [one for one in answers if one.temperature == temperature][int(second) :: 2]
        for temperature in temperatures
    }


def sights(
    score: Scorer,
    names: Sequence[str],
    answers: Sequence[Answer],
    second: bool,
    vocabulary_size: int,
    quiet: bool = True,
) -> dict[float, dict[str, Sight]]:
    """Each guesser's sight by temperature, on one half of the answers. quiet: no progress bar."""
    parts = half(answers, second)
    title = "judging" if second else "calibrating"
    with progress_bar(title, sum(map(len, parts.values())), quiet) as bar:
        return {
            temperature: observe(score, names, _counted(own, bar), vocabulary_size)
            for temperature, own in parts.items()
        }


def _counted(answers: Iterable[Answer], bar: tqdm[None]) -> Iterator[Answer]:
    for answer in answers:
        yield answer
        bar.update()


def calibration(sights: dict[float, Sight]) -> Calibration:
    """Fitted to what was seen at each temperature."""
    return Calibration.fit(
        {temperature: sight.margins for temperature, sight in sights.items()},
        {temperature: sight.correct for temperature, sight in sights.items()},
    )


def draft_scorer(model: Any) -> Scorer:
    """A draft as the one guesser."""

    def score(text: torch.Tensor, rows: slice) -> list[torch.Tensor]:
        places = torch.arange(rows.start, rows.stop, device=model.device)
        return [draft_logits(model, text.to(model.device), places)]

    return score


def target_scorer(teacher: Teacher) -> Scorer:
    """The target itself as the one guesser."""
    return lambda text, rows: [teacher.logits(teacher.hidden(text)[0][0, rows])]


def exit_scorer(teacher: Teacher, heads: dict[int, ExitHead]) -> Scorer:
    """Exit heads as the guessers, one at a time to spare memory."""

    def score(text: torch.Tensor, rows: slice) -> Iterator[torch.Tensor]:
        _, taps = teacher.hidden(text, tuple(heads))
        for layer, head in heads.items():
            down, up, norm = (part.to(teacher.device).float() for part in (head.down, head.up, head.norm))
            hidden = taps[layer][0, rows].float()
            yield teacher.logits(adapt(hidden, down, up, norm, teacher.norm_epsilon))

    return score
