"""What the pair does on text it never saw: losses, and how often draft and exits foresee the target's draw.

The target continues held-out prompts at each temperature; then target, draft and exits score the same text under the
same Gumbel noise, as edge and server do. Half of the prompts fit the calibrations, the other half gives every reported
figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.calibration import TEMPERATURES, Calibration
from edgespec.train.packing import Stream
from edgespec.train.teacher import Teacher

RANKS = 4
"""How many of a guesser's best tokens are compared with the draw."""

_ROWS_AT_ONCE = 16

Scorer = Callable[[torch.Tensor], Iterable[torch.Tensor]]
"""Token ids int64 [B, L] -> for each guesser in turn its logits [B, L, V]."""


@dataclass(frozen=True)
class Sample:
    """How much of the target's own text is drawn for measuring, at each temperature."""

    prompts: int = 128
    prompt_tokens: int = 96
    new_tokens: int = 160
    seed: int = 0


@dataclass(frozen=True)
class Texts:
    """Token ids int64 [B, L] of which positions from `start` on are observed."""

    tokens: torch.Tensor
    start: int

    def half(self, second: bool) -> Texts:
        """Every other text: the first half fits, the second half judges."""
        return Texts(self.tokens[int(second) :: 2], self.start)


@dataclass(frozen=True)
class Sight:
    """A guesser against the target: margins float [N], correct bool [N, ranks] (rank-th best is drawn)."""

    margins: NDArray[np.float64]
    correct: NDArray[np.bool_]

    @property
    def rate(self) -> float:
        """How often the best guess is the target's draw."""
        return float(self.correct[:, 0].mean())


def prompts(stream: Stream, count: int, length: int, seed: int) -> torch.Tensor:
    """`count` held-out windows int64 [count, length], evenly spread over the stream."""
    room = len(stream) - length - 1
    first = int(np.random.default_rng(seed).integers(max(1, room // max(1, count))))
    starts = (first + np.arange(count) * (room // count)) % room
    return torch.from_numpy(np.stack([stream[s : s + length] for s in starts]).astype(np.int64))


@torch.no_grad()
def continuations(
    teacher: Teacher, prompt: torch.Tensor, new_tokens: int, temperature: float, seed: int
) -> Texts:
    """The target's own text after each prompt [B, P], sampled at `temperature`."""
    generator = torch.Generator().manual_seed(seed)
    pieces, feed, cache = [prompt], prompt, None
    for _ in range(new_tokens):
        output = teacher.model.model(input_ids=feed, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        scores = teacher.logits(output.last_hidden_state[:, -1])
        if temperature > 0:
            scores = scores / temperature + _gumbel(scores.shape, generator)
        feed = scores.argmax(-1, keepdim=True)
        pieces.append(feed)
    return Texts(torch.cat(pieces, dim=1), prompt.shape[1] - 1)


@torch.no_grad()
def observe(
    teacher: Teacher, guessers: Scorer, names: Sequence[str], texts: Texts, temperature: float, seed: int
) -> dict[str, Sight]:
    """How well each guesser, in the order of `names`, foresees the target's draws after each position."""
    generator = torch.Generator().manual_seed(seed)
    seen: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {name: [] for name in names}
    for batch in torch.split(texts.tokens, _ROWS_AT_ONCE):
        wanted = teacher.logits(teacher.hidden(batch)[0][:, texts.start : -1])
        noise = _gumbel(wanted.shape, generator) if temperature > 0 else torch.zeros(())
        divisor = temperature if temperature > 0 else 1.0
        drawn = (wanted / divisor + noise).argmax(-1)
        for name, logits in zip(names, guessers(batch), strict=True):
            best, ids = (logits[:, texts.start : -1].float() / divisor + noise).topk(RANKS, dim=-1)
            margins = (best[..., 0] - best[..., 1]).reshape(-1).double().numpy()
            seen[name].append((margins, (ids == drawn[..., None]).reshape(-1, RANKS).numpy()))
    return {
        name: Sight(np.concatenate([m for m, _ in parts]), np.concatenate([c for _, c in parts]))
        for name, parts in seen.items()
    }


@torch.no_grad()
def loss(score: Scorer, stream: Stream, window: int, most_tokens: int = 100_000) -> float:
    """Mean next-token loss in nats over windows of a stream, of the one guesser of `score`."""
    count = max(1, min(len(stream), most_tokens) // window)
    tokens = torch.from_numpy(stream[: count * window].reshape(count, -1).astype(np.int64))
    losses = []
    for batch in torch.split(tokens, 8):
        (logits,) = score(batch)
        rows, wanted = logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten()
        losses.append(torch.nn.functional.cross_entropy(rows, wanted, reduction="none"))
    return float(torch.cat(losses).mean())


def draft_scorer(model: torch.nn.Module) -> Scorer:
    """The draft as the one guesser of `observe`."""
    return lambda batch: [model(input_ids=batch, use_cache=False).logits]


def own_texts(teacher: Teacher, stream: Stream, sample: Sample) -> Iterator[tuple[float, Texts]]:
    """The target's continuations of held-out prompts at each calibrated temperature."""
    start = prompts(stream, sample.prompts, sample.prompt_tokens, sample.seed)
    for index, temperature in enumerate(TEMPERATURES):
        yield temperature, continuations(teacher, start, sample.new_tokens, temperature, sample.seed + index)


def calibrations(
    teacher: Teacher, guessers: Scorer, names: Sequence[str], stream: Stream, sample: Sample
) -> dict[str, Calibration]:
    """Each guesser's calibration, fitted on half of the target's own texts."""
    sights = {
        temperature: observe(teacher, guessers, names, texts.half(second=False), temperature, sample.seed)
        for temperature, texts in own_texts(teacher, stream, sample)
    }
    return {
        name: Calibration.fit(
            {temperature: seen[name].margins for temperature, seen in sights.items()},
            {temperature: seen[name].correct for temperature, seen in sights.items()},
        )
        for name in names
    }


def _gumbel(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    return -torch.empty(tuple(shape)).exponential_(generator=generator).log()
