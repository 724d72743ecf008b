"""The plain backend of `verify`, in numpy: what the kernels are held to.

Scores are float32 (float64 for float64 logits) as in the kernels, so that their ties are the same; sums of
probabilities are float64, so that only a token on top-p's or min-p's very edge can fall the other way in a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels import arguments, philox
from edgespec.kernels.exit_head import best
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Ragged, Samplings, Verdicts

NOT_SOUND = (-1, np.nan, np.nan)


@dataclass(frozen=True)
class _Session:
    """One session's parameters."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    penalty: float
    seed: int


def verify(
    logits: Any,
    trees: Trees,
    positions: NDArray[np.int32],
    samplings: Samplings,
    seen: Ragged,
    biases: Ragged,
) -> Verdicts:
    """As edgespec.kernels.verify.verify, whose checks have passed."""
    raw = arguments.widened(logits)
    widest = int(np.diff(trees.offsets).max()) - 1
    verdicts = Verdicts(
        np.zeros(trees.sessions, np.int32),
        np.full((trees.sessions, max(1, widest)), -1, np.int32),
        np.full(trees.sessions, -1, np.int32),
        np.full((trees.sessions, widest + 1), np.nan, np.float32),
        np.full((trees.sessions, widest + 1), np.nan, np.float32),
        np.zeros(trees.sessions, np.bool_),
    )
    for s in range(trees.sessions):
        session = _Session(
            float(samplings.temperatures[s]),
            int(samplings.top_k[s]),
            float(samplings.top_p[s]),
            float(samplings.min_p[s]),
            float(samplings.penalties[s]),
            int(samplings.seeds[s]),
        )
        first, end = trees.offsets[s], trees.offsets[s + 1]
        bias = tuple(
            array[biases.offsets[s] : biases.offsets[s + 1]] for array in (biases.ids, biases.values)
        )
        row, depth = first, 0
        while True:
            children = first + np.flatnonzero(trees.parents[first:end] == row - first)
            token, margin, logprob = decide_row(
                raw[row],
                session,
                int(positions[row]),
                seen.ids[seen.offsets[row] : seen.offsets[row + 1]],
                bias,
            )
            verdicts.logprobs[s, depth], verdicts.margins[s, depth] = logprob, margin
            match = children[trees.tokens[children] == token]
            if token < 0 or not len(match):
                break
            row = match[0]
            verdicts.paths[s, depth] = row - first
            depth += 1
        verdicts.lengths[s], verdicts.tokens[s], verdicts.sound[s] = depth, token, token >= 0
    return verdicts


def decide_row(
    raw: NDArray[Any],
    session: _Session,
    position: int,
    seen: NDArray[np.int32],
    bias: tuple[NDArray[Any], ...],
) -> tuple[int, float, float]:
    """(token, margin, log-probability) decided after one row of raw logits [V]; token -1 where they are not sound."""
    if np.isnan(raw).any() or (raw == np.inf).any() or not np.isfinite(raw).any():
        return NOT_SOUND
    scores = penalised(raw, bias, seen, session.penalty)
    if session.temperature > 0:
        scores = filtered(
            scores / scores.dtype.type(session.temperature), session.top_k, session.top_p, session.min_p
        )
        scores = scores + philox.gumbel(session.seed, position, np.arange(len(scores)))
    token, margin = best(scores)
    return token, margin, float(raw[token] - _logsumexp(raw))


def penalised(
    raw: NDArray[Any], bias: tuple[NDArray[Any], ...], seen: NDArray[np.int32], penalty: float
) -> NDArray[Any]:
    """Logits [V] with the bias added, then the repetition penalty."""
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
        dropped = np.cumsum(_softmax(kept[rising])) <= 1 - top_p
        dropped[-1] = False
        kept[rising[dropped]] = -np.inf
    if min_p > 0:
        kept[np.exp(kept.astype(np.float64) - kept.max()) < min_p] = -np.inf
    return kept


def _softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    weights = np.exp(scores.astype(np.float64) - scores.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _logsumexp(scores: NDArray[Any]) -> float:
    top = float(scores.max())
    return top + float(np.log(np.exp(scores.astype(np.float64) - top).sum()))
