"""Sampling: from the target's logits to the tokens it commits. The reference that kernels are held to.

Temperature, then top-k, then top-p, in transformers' order and with its rules for ties; then Gumbel noise
that depends on seed, position and token alone, and the best score wins (coupled sampling, arXiv 2408.07978).
Greedy at temperature 0. Ties go to the lowest id. float64 logits stay float64; half precision is raised to
float32.
"""

from __future__ import annotations

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
    require_supported(sampling)
    raw = _at_least_float32(logits)
    if not len(raw):
        return Decisions(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32))
    scores = raw
    if not sampling.greedy:
        if noise is None:
            noise = coupled_noise(NoiseRows(raw.shape[-1]), positions, seed, raw.device)
        scores = warp(raw, sampling) + noise
    tokens, margins = best(scores)
    logprobs = raw.gather(-1, tokens[:, None])[:, 0] - raw.logsumexp(dim=-1)
    return Decisions(_int32(tokens), _float32(logprobs), _float32(margins))


def guess(
    logits: torch.Tensor, temperature: float, noise: torch.Tensor | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """An exit's guess for each row of `logits` [D, V]: tokens [D] and margins [D]. Top-k and top-p do not
    enter."""
    scores = _at_least_float32(logits)
    if noise is not None:
        scores = scores / temperature + noise
    tokens, margins = best(scores)
    return _int32(tokens), _float32(margins)


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
