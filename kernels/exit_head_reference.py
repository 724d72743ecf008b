"""The reference of `exit_head`, in numpy, with its products summed in float64; it writes the logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels import arguments, philox
from edgespec.kernels.data import ExitScores, HeadSettings


def exit_head(
    hidden: Any, norm: Any, head: Any, columns: Sequence[NDArray[Any]], settings: HeadSettings
) -> ExitScores:
    """As edgespec.kernels.exit_head. columns: temperatures, seeds, positions, draft tokens."""
    rows = zip(exit_logits(hidden, norm, head, settings), *columns, strict=True)
    scores = [np.array(column) for column in zip(*map(_score_row, rows), strict=True)]
    tokens, draft_tokens, sound = scores[0].astype(np.int32), columns[3], scores[5]
    margins, probabilities, logsumexps, draft_scores = (one.astype(np.float32) for one in scores[1:5])
    agrees = (tokens == draft_tokens) & (draft_tokens >= 0)
    return ExitScores(tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound)


def exit_logits(hidden: Any, norm: Any, head: Any, settings: HeadSettings) -> NDArray[np.float32]:
    """The exit's logits float32 [R, V]."""
    dtype = arguments.dtype_name(head)
    wide = arguments.widened(hidden)
    with np.errstate(invalid="ignore", over="ignore"):
        # x = round(round(h / sqrt(mean(h^2) + epsilon)) * norm)
        scale = 1 / np.sqrt(np.square(wide.astype(np.float64)).mean(-1, keepdims=True) + settings.epsilon)
        scaled = arguments.rounded(wide * scale.astype(np.float32), dtype)
        x = arguments.rounded(scaled * arguments.widened(norm), dtype)
        products = x.astype(np.float64) @ arguments.widened(head).astype(np.float64).T
        logits: NDArray[np.float32] = products.astype(np.float32) * np.float32(settings.logit_scale)
        if settings.softcap:
            logits = np.float32(settings.softcap) * np.tanh(logits / np.float32(settings.softcap))
    return logits


def _score_row(
    row: tuple[NDArray[np.float32], np.float32, np.uint64, np.int32, np.int32],
) -> tuple[int, float, float, float, float, bool]:
    """(token, margin, probability, log-sum-exp, draft's score, sound) of one row: logits [V], temperature, seed,
    position, draft's token."""
    logits, temperature, seed, position, draft_token = row
    if not np.isfinite(logits).all():
        return -1, np.nan, np.nan, np.nan, np.nan, False
    z = logits if temperature == 0 else logits / temperature
    s = z if temperature == 0 else z + philox.gumbel(int(seed), int(position), np.arange(len(z)))
    token, margin = best(s)
    top = z.max().astype(np.float64)
    logsumexp = top + np.log(np.exp(z - top).sum())
    draft_score = float(s[draft_token]) if draft_token >= 0 else np.nan
    return token, margin, float(np.exp(z[token] - logsumexp)), float(logsumexp), draft_score, True


def best(scores: NDArray[Any]) -> tuple[int, float]:
    """The best token of scores [V], the lowest id among equals, and its margin over the second-best."""
    token = int(scores.argmax())
    rest = np.delete(scores, token)
    return token, float(scores[token] - rest.max()) if len(rest) else np.inf
