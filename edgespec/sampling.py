"""Sampling: from the target's logits to the tokens it commits. The reference that kernels are held to.

Temperature, then top-k, then top-p, in transformers' order and with its rules for ties; then Gumbel noise
that depends on seed, position and token alone, and the best score wins (coupled sampling, arXiv 2408.07978).
Greedy at temperature 0. Ties go to the lowest id. float64 logits stay float64; half precision is raised to
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgespec.errors import EdgespecError
from edgespec.noise import NoiseRows
from edgespec.params import SamplingParams


@dataclass(frozen=True)
class Decisions:
    """What was decided behind each of D rows.

    tokens: int32 [D]. logprobs: float32 [D], log-softmax of the raw logits at the token. margins: float32
    [D], the best noisy score minus the second-best, after top-k and top-p (infinite where they left one
    token).
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    margins: NDArray[np.float32]


def require_supported(sampling: SamplingParams) -> None:
    """Raise EdgespecError for a parameter that the target cannot honour yet: none is silently ignored."""
    for name, off in (("min_p", 0.0), ("repetition_penalty", 1.0), ("logit_bias", {})):
        if getattr(sampling, name) != off:
            raise EdgespecError(f"this server does not offer {name} yet: leave it unset.")


def decide(
    logits: torch.Tensor,
    positions: ArrayLike,
    sampling: SamplingParams,
    seed: int,
    noise: torch.Tensor | None = None,
) -> Decisions:
    """The token sampled for each row of `logits` [D, V].

    positions: int [D], absolute position of the token that is being sampled (the row's own plus one).
    noise: float32 [D, V] for these positions, where it is at hand. Raises EdgespecError for logits that are
    not finite numbers and for parameters not offered yet.
    """
    if noise is None and len(logits) and not sampling.greedy:
        noise = coupled_noise(NoiseRows(logits.shape[-1]), positions, seed, logits.device)
    return decide_together(logits, [(len(logits), sampling)], noise)[0]


def decide_together(
    logits: torch.Tensor, parts: Sequence[tuple[int, SamplingParams]], noise: torch.Tensor | None
) -> list[Decisions]:
    """The tokens sampled for the rows of several sessions at once: `parts` says how many rows of `logits` [D,
    V] are whose.

    noise: float32 [D, V], 0 in greedy rows; None where all are greedy. Raises EdgespecError as `decide`.
    """
    groups: dict[tuple[float, int, float], tuple[SamplingParams, list[int]]] = {}
    first = 0
    for count, sampling in parts:
        require_supported(sampling)
        if not sampling.greedy:
            alike = (sampling.temperature, sampling.top_k, sampling.top_p)
            groups.setdefault(alike, (sampling, []))[1].extend(range(first, first + count))
        first += count
    raw = _at_least_float32(logits)
    if not len(raw):
        empty = Decisions(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32))
        return [empty for _ in parts]
    scores = _warped(raw, list(groups.values()))
    if noise is not None:
        scores = scores + noise
    tokens, margins = best(scores)
    logprobs = raw.gather(-1, tokens[:, None])[:, 0] - raw.logsumexp(dim=-1)
    columns = (_int32(tokens), _float32(logprobs), _float32(margins))
    ends = np.cumsum([count for count, _ in parts])[:-1]
    return [Decisions(*part) for part in zip(*(np.split(column, ends) for column in columns), strict=True)]


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


def _warped(raw: torch.Tensor, groups: Sequence[tuple[SamplingParams, list[int]]]) -> torch.Tensor:
    """`raw` [D, V] with the rows of each group warped as its parameters say; the others as they are."""
    if len(groups) == 1 and len(groups[0][1]) == len(raw):
        return warp(raw, groups[0][0])
    scores = raw.clone()
    for sampling, rows in groups:
        scores[rows] = warp(raw[rows], sampling)
    return scores


def warp(logits: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """Scores [D, V] after temperature, top-k and top-p; what they drop is -inf. Ties at top-k's edge all
    stay."""
    scores = logits / sampling.temperature
    if 0 < sampling.top_k < scores.shape[-1]:
        kth = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    if sampling.top_p < 1.0:
        rising, order = torch.sort(scores, descending=False, dim=-1)
        dropped = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        dropped[:, -1] = False
        scores = scores.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
    return scores


def best(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best token of each row [D], the lowest id among equals, and its margin over the second-best [D]."""
    tokens = scores.argmax(dim=-1)
    top = scores.topk(min(2, scores.shape[-1]), dim=-1).values
    if not bool(torch.isfinite(top[:, 0]).all()):
        raise EdgespecError(
            "the target's logits are NaN or infinite: its weights are damaged, or its dtype overflows; "
            "load it in float32 or bfloat16."
        )
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
