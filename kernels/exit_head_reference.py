"""The reference of `exit_head`, in numpy, with its products summed in float64; it writes the logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.kernels import arguments, philox
from edgespec.kernels.data import ExitScores, HeadSettings


def exit_head(
    hidden: Any, norm: Any, head: Any, scales: Any, columns: Sequence[NDArray[Any]], settings: HeadSettings
) -> ExitScores:
    """As edgespec.kernels.exit_head. columns: temperatures, seeds, positions."""
    rows = zip(exit_logits(hidden, norm, head, settings, scales), *columns, strict=True)
    tokens, margins = zip(*map(_score_row, rows), strict=True)
    return ExitScores(np.array(tokens, np.int32), np.array(margins, np.float32))


def exit_logits(
    hidden: Any, norm: Any, head: Any, settings: HeadSettings, scales: Any = None
) -> NDArray[np.float32]:
    """The exit's logits float32 [R, V]."""
    dtype = arguments.dtype_name(hidden)
    wide = arguments.widened(hidden)
    with np.errstate(invalid="ignore", over="ignore"):
        # x = round(round(h / sqrt(mean(h^2) + epsilon)) * norm)
        scale = 1 / np.sqrt(np.square(wide.astype(np.float64)).mean(-1, keepdims=True) + settings.epsilon)
        scaled = arguments.rounded(wide * scale.astype(np.float32), dtype)
        x = arguments.rounded(scaled * arguments.widened(norm), dtype)
        products = x.astype(np.float64) @ arguments.widened(head).astype(np.float64).T
        logits: NDArray[np.float32] = products.astype(np.float32)
        if scales is not None:
            logits = logits * arguments.raw(scales)
        logits = logits * np.float32(settings.logit_scale)
        if settings.softcap:
            logits = np.float32(settings.softcap) * np.tanh(logits / np.float32(settings.softcap))
    return logits


def _score_row(row: tuple[NDArray[np.float32], np.float32, np.uint64, np.int32]) -> tuple[int, float]:
    """(token, margin) of one row: logits [V], temperature, seed, position."""
    logits, temperature, seed, position = row
    if not np.isfinite(logits).all():
        return -1, np.nan
    z = logits if temperature == 0 else logits / temperature
    return best(z if temperature == 0 else z + philox.gumbel(int(seed), int(position), np.arange(len(z))))


def best(scores: NDArray[Any]) -> tuple[int, float]:
    """The best token of scores [V], the lowest id among equals, and its margin over the second-best."""
    token = int(scores.argmax())
    rest = np.delete(scores, token)
    return token, float(scores[token] - rest.max()) if len(rest) else np.inf
