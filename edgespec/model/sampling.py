"""Sampling: from the target's logits to the tokens it commits, by the `verify` kernel.

Bias and repetition penalty, temperature, then top-k, top-p and min-p, in transformers' order and with its rules for
ties; then Gumbel noise that depends on seed, position and token alone, and the best score wins (coupled sampling,
arXiv 2408.07978). Greedy at temperature 0. Ties go to the lowest id. float64 logits stay float64; half precision is
raised to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.noise import NoiseRows
from edgespec.core.params import SamplingParams
from edgespec.kernels import arguments
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Ragged, Samplings, verify
from edgespec.model.backends import backend_on
from edgespec.model.target_engine import Decisions

NOT_NUMBERS = (
    "the target's logits are NaN or infinite: its weights are damaged, or its dtype overflows; "
    "load it in float32 or bfloat16."
)


@dataclass(frozen=True)
class Rows:
    """One session's rows among those that are decided together.

    positions: int [D], absolute position of the token sampled behind each row (the row's own plus one). seen: for a
    repetition penalty, each row's text so far: different token ids, int32 [...].
    """

    sampling: SamplingParams
    seed: int
    positions: ArrayLike
    seen: Sequence[NDArray[np.int32]] | None = None

    def __len__(self) -> int:
        return len(np.asarray(self.positions))


def decide(
    logits: torch.Tensor,
    positions: ArrayLike,
    sampling: SamplingParams,
    seed: int,
    seen: Sequence[NDArray[np.int32]] | None = None,
) -> Decisions:
    """The token sampled for each row of `logits` [D, V]: `decide_together` of one session."""
    return decide_together(logits, [Rows(sampling, seed, positions, seen)])[0]


def decide_together(logits: torch.Tensor, parts: Sequence[Rows]) -> list[Decisions]:
    """The tokens sampled for the rows of several sessions, in their order in `logits` [D, V].

    By the `verify` kernel; where the device has none, on the host. Raises EdgespecError for logits that are not finite numbers.
    """
    for part in parts:
        if part.sampling.repetition_penalty != 1 and len(part) and part.seen is None:
            raise EdgespecError("a repetition penalty needs each row's text so far: give `seen`.")
    if not len(logits):
        empty = Decisions(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32))
        return [empty for _ in parts]
    backend = backend_on(logits.device)
    if backend is None:
        logits, backend = logits.cpu(), "cpu"
    columns = _by_kernel(logits, parts, backend)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [Decisions(*part) for part in zip(*(np.split(column, ends) for column in columns), strict=True)]


Columns = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]
"""Tokens, log-probabilities and margins of all rows."""


def _by_kernel(logits: torch.Tensor, parts: Sequence[Rows], backend: str) -> Columns:
    """Every row as a session of its own: the draft trees are walked elsewhere."""
    count = len(logits)
    own_rows = Trees(
        np.arange(count + 1, dtype=np.int32), np.full(count, -1, np.int32), np.zeros(count, np.int32)
    )
    rows = [part for part in parts for _ in range(len(part))]

    def column(value: Callable[[Rows], float], dtype: type = np.float64) -> NDArray[Any]:
        return np.array([value(part) for part in rows], dtype=dtype)

    verdicts = verify(
        logits.contiguous(),
        own_rows,
        np.concatenate([np.asarray(part.positions, dtype=np.int32) for part in parts]),
        Samplings(
            column(lambda part: part.sampling.temperature),
            column(lambda part: part.sampling.top_k, np.int32),
            column(lambda part: part.sampling.top_p),
            column(lambda part: part.sampling.min_p),
            column(lambda part: part.sampling.repetition_penalty),
            column(lambda part: part.seed, np.uint64),
        ),
        seen=_seen(parts),
        biases=_biases(rows),
        backend=backend,
    )
    tokens, sound = arguments.on_host(verdicts.tokens), arguments.on_host(verdicts.sound)
    if not sound.all():
        raise EdgespecError(NOT_NUMBERS)
    return tokens, arguments.on_host(verdicts.logprobs[:, 0]), arguments.on_host(verdicts.margins[:, 0])


def _seen(parts: Sequence[Rows]) -> Ragged | None:
    """The texts of rows whose session has a repetition penalty."""
    if all(part.sampling.repetition_penalty == 1 for part in parts):
        return None
    nothing = np.empty(0, np.int32)
    lists = [
        nothing if part.seen is None or part.sampling.repetition_penalty == 1 else part.seen[row]
        for part in parts
        for row in range(len(part))
    ]
    return Ragged(_offsets(lists), np.concatenate(lists).astype(np.int32))


def _biases(rows: Sequence[Rows]) -> Ragged | None:
    biases = [part.sampling.logit_bias for part in rows]
    if not any(biases):
        return None
    ids = [token for bias in biases for token in bias]
    values = [value for bias in biases for value in bias.values()]
    return Ragged(_offsets(biases), np.array(ids, np.int32), np.array(values, np.float32))


def _offsets(lists: Sequence[Sized]) -> NDArray[np.int32]:
    return np.cumsum([0, *(len(one) for one in lists)]).astype(np.int32)


def guess(
    logits: torch.Tensor, temperature: float | torch.Tensor, noise: torch.Tensor | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """An exit's guess for each row of `logits` [D, V]: tokens [D] and margins [D]. Top-k and top-p do not
    enter. temperature: of all rows, or [D, 1], 1 in greedy rows."""
    scores = _at_least_float32(logits)
    if noise is not None:
        scores = scores / temperature + noise
    tokens, margins = best(scores)
    return _int32(tokens), _float32(margins)


def best(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best token of each row [D], the lowest id among equals, and its margin over the second-best [D]."""
    tokens = scores.argmax(dim=-1)
    top = scores.topk(min(2, scores.shape[-1]), dim=-1).values
    if not bool(torch.isfinite(top[:, 0]).all()):
        raise EdgespecError(NOT_NUMBERS)
    margins = top[:, 0] - top[:, 1] if top.shape[-1] > 1 else torch.full_like(top[:, 0], torch.inf)
    return tokens, margins


def coupled_noise(
    rows: NoiseRows, positions: ArrayLike, seed: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Gumbel noise float32 [D, V] for int [D] positions."""
    different, which = rows.rows(seed, positions)
    noise = torch.from_numpy(different).to(device)
    return noise if len(different) == len(which) else noise[torch.from_numpy(which).to(device)]


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _int32(tokens: torch.Tensor) -> NDArray[np.int32]:
    array: NDArray[np.int32] = tokens.to(torch.int32).cpu().numpy()
    return array


def _float32(values: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
