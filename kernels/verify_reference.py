"""The reference of `verify`, in numpy.

Scores are float32 (float64 for float64 logits) as in the kernels, so that their ties are the same; sums of
probabilities are float64, so that only a token on top-p's or min-p's very edge can fall the other way in a kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels import arguments, philox
from edgespec.kernels.data import Ragged, Samplings, Trees, Verdicts
from edgespec.kernels.exit_head_reference import best

NOT_SOUND = (-1, np.nan, np.nan)


def verify(
    logits: Any,
    trees: Trees,
    positions: NDArray[np.int32],
    samplings: Samplings,
    seen: Ragged | None,
    biases: Ragged | None,
) -> Verdicts:
    """As edgespec.kernels.verify, whose checks have passed; decides every row, then walks."""
    raw, sizes = arguments.widened(logits), np.diff(trees.offsets)
    decided = [
        decide_row(raw[row], samplings, s, int(positions[row]), _list(seen, row)[0], _list(biases, row))
        for row, s in enumerate(np.repeat(np.arange(trees.sessions), sizes).tolist())
    ]
    choices, margins, logprobs = (np.array(column) for column in zip(*decided, strict=True))
    lengths = np.zeros(trees.sessions, np.int32)
    paths = np.full((trees.sessions, max(1, int(sizes.max()) - 1)), -1, np.int32)
    for s, own in enumerate(np.split(choices, trees.offsets[1:-1])):
        path = trees.of_session(s).walk(own.tolist())
        lengths[s] = len(path)
        paths[s, : len(path)] = path
    return Verdicts(
        lengths, paths, choices.astype(np.int32), logprobs.astype(np.float32), margins.astype(np.float32)
    )


def decide_row(
    raw: NDArray[Any],
    samplings: Samplings,
    session: int,
    position: int,
    seen: NDArray[np.int32],
    bias: tuple[NDArray[Any], NDArray[Any]],
) -> tuple[int, float, float]:
    """(token, margin, log-probability) decided after one row of raw logits [V]; token -1 where they are not sound."""
    if np.isnan(raw).any() or (raw == np.inf).any() or not np.isfinite(raw).any():
        return NOT_SOUND
    scores = penalised(raw, bias, seen, float(samplings.penalties[session]))
    temperature = scores.dtype.type(samplings.temperatures[session])
    if temperature > 0:
        filters = (column[session] for column in (samplings.top_k, samplings.top_p, samplings.min_p))
        scores = filtered(scores / temperature, *filters)
        scores = scores + philox.gumbel(int(samplings.seeds[session]), position, np.arange(len(scores)))
    token, margin = best(scores)
    return token, margin, float(raw[token] - _logsumexp(raw))


def penalised(
    raw: NDArray[Any], bias: tuple[NDArray[Any], NDArray[Any]], seen: NDArray[np.int32], penalty: float
) -> NDArray[Any]:
    """Logits [V] with the bias (ids, values) added, then the repetition penalty on the ids `seen`."""
    scores: NDArray[Any] = raw.copy()
    scores[bias[0]] += bias[1].astype(scores.dtype)
    if penalty != 1:
        own, factor = scores[seen], scores.dtype.type(penalty)
        scores[seen] = np.where(own < 0, own * factor, own / factor)
    return scores


def filtered(scores: NDArray[Any], top_k: int, top_p: float, min_p: float) -> NDArray[Any]:
    """Scores [V] with what top-k, top-p and min-p drop at -inf."""
    kept: NDArray[Any] = scores.copy()
    if 0 < top_k < len(scores):
        kept[scores < np.partition(scores, len(scores) - top_k)[len(scores) - top_k]] = -np.inf
    if top_p < 1:
        rising = np.argsort(kept, kind="stable")
        weights = np.exp(kept[rising].astype(np.float64) - kept.max())
        dropped = np.cumsum(weights / weights.sum()) <= 1 - top_p
        dropped[-1] = False
        kept[rising[dropped]] = -np.inf
    if min_p > 0:
        kept[np.exp(kept.astype(np.float64) - kept.max()) < min_p] = -np.inf
    return kept


def _list(lists: Ragged | None, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A list's ids and values; empty where there are no lists."""
    if lists is None:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    own = slice(lists.offsets[number], lists.offsets[number + 1])
    return lists.ids[own], lists.ids[own] if lists.values is None else lists.values[own]


def _logsumexp(scores: NDArray[Any]) -> float:
    top = float(scores.max())
    return top + float(np.log(np.exp(scores.astype(np.float64) - top).sum()))
