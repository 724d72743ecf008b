"""An exit's guess: hidden rows -> RMS norm -> the target's LM head -> coupled noise -> the few words a hint needs.

No [R, V] logits are kept. This file holds the public function and the plain reference; csrc/sampling/exit_head.cpp is
the backend for CPUs, exit_head_triton.py the one for CUDA. All agree up to near-ties: docs/kernels.md states the bound.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.kernels import arguments, philox

MAX_ROWS = 64

MAX_POSITION = 2**31 - 1

PARALLEL_BYTES = 4 << 20
"""A thread more is started for every so many bytes of the LM head."""


@dataclass(frozen=True)
class ExitScores:
    """What the exit says of each of R rows; numpy arrays, or CUDA tensors where the rows were.

    z = logit / temperature (the logit itself where the temperature is 0), s = z + noise (z where it is 0).
    tokens int32: the token of the best s, the lowest id among equals. margins float32: best minus second-best s
    (infinite with one token). probabilities float32: softmax(z) at the token. logsumexps float32: of z. draft_scores
    float32: s of the draft's token, NaN where none was given. agrees bool: the draft's token is the best.
    sound bool: False where the row's logits hold NaN or infinity; such a row's token is -1 and its floats are NaN.
    """

    tokens: Any
    margins: Any
    probabilities: Any
    logsumexps: Any
    draft_scores: Any
    agrees: Any
    sound: Any

    def require_sound(self) -> None:
        """Raise EdgespecError where a row is not sound."""
        require_sound(self.sound, "the exit's logits")


@dataclass(frozen=True)
class HeadSettings:
    """epsilon: of the RMS norm. logit_scale: factor on the logits (Cohere, Granite). softcap: logits become
    softcap * tanh(logits / softcap) (Gemma 2); 0 is none."""

    epsilon: float = 1e-6
    logit_scale: float = 1.0
    softcap: float = 0.0


PLAIN = HeadSettings()


def exit_head(
    hidden: Any,
    norm: Any,
    head: Any,
    *,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    draft_tokens: Any = None,
    settings: HeadSettings = PLAIN,
    backend: str = "auto",
    threads: int | None = None,
) -> ExitScores:
    """The guess of an exit for each row of `hidden`, reading the LM head once.

    hidden: [R, D], 1 to 64 rows, the exit's adapter already applied; norm: [D]; head: [V, D]; all of one dtype,
    float32, bfloat16 or float16, contiguous, on one device. As in the model, rows are normalised in float32 and rounded
    to that dtype before and after the norm's weights. temperatures: float32 [R], 0 is greedy. seeds: uint64 [R] (or
    int64 bits). positions: int32 [R], absolute position of the token that is guessed. draft_tokens: int32 [R], -1 for
    none. backend: "auto", "reference", "cpu" or "triton". threads: of the CPU backend; None: torch's own, where torch is in
    use, as far as they pay. Raises EdgespecError for an argument that does not fit.
    """
    if backend in ("auto", "cpu"):
        try:
            return _on_cpu(
                hidden, norm, head, temperatures, seeds, positions, draft_tokens, settings, threads
            )
        except (AttributeError, TypeError, ValueError):
            pass  # something is to be converted, is for another backend, or does not fit: below it is found out
    dtypes = ("float32", *arguments.HALVES)
    arguments.matrix("hidden", hidden, ("R", "D"), dtypes)
    rows, width = hidden.shape
    arguments.require(rows <= MAX_ROWS, "hidden", f"at most {MAX_ROWS} rows", f"{rows} rows")
    same = (arguments.dtype_name(hidden),)
    arguments.matrix("norm", norm, (width,), same)
    arguments.matrix("head", head, ("V", width), same)
    devices = {arguments.device_of(array) for array in (hidden, norm, head)}
    arguments.require(len(devices) == 1, "hidden, norm and head", "on one device", sorted(devices))
    drafted = np.full(rows, -1) if draft_tokens is None else draft_tokens
    columns = (
        arguments.vector("temperatures", temperatures, rows, np.float32, 0, np.finfo(np.float32).max),
        arguments.seeds("seeds", seeds, rows),
        arguments.vector("positions", positions, rows, np.int32, 0, MAX_POSITION),
        arguments.vector("draft_tokens", drafted, rows, np.int32, -1, head.shape[0] - 1),
    )
    chosen = arguments.choose_backend(backend, hidden)
    if chosen == "triton":
        from edgespec.kernels import exit_head_triton

        return exit_head_triton.launch(hidden, norm, head, *columns, settings)
    arguments.require(devices == {"cpu"}, "hidden", "on the CPU", "on a GPU")
    if chosen == "reference":
        return reference(hidden, norm, head, *columns, settings)
    return _on_cpu(hidden, norm, head, *columns, settings, threads)


def _on_cpu(
    hidden: Any,
    norm: Any,
    head: Any,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    draft_tokens: Any,
    settings: HeadSettings,
    threads: int | None,
) -> ExitScores:
    """The backend in C++; it takes arrays of just the right types and refuses whatever does not fit, in few words."""
    from edgespec import _native

    if len({arguments.dtype_name(array) for array in (hidden, norm, head)}) > 1:
        raise TypeError
    if draft_tokens is None:
        draft_tokens = np.full(len(hidden), -1, np.int32)
    weights = arguments.raw(head)
    scores = _native.exit_head(
        arguments.raw(hidden),
        arguments.raw(norm),
        weights,
        arguments.dtype_name(head),
        temperatures,
        seeds,
        positions,
        draft_tokens,
        settings.epsilon,
        settings.logit_scale,
        settings.softcap,
        useful_threads(threads, weights.nbytes),
    )
    tokens, margins, probabilities, logsumexps, draft_scores, sound = scores
    agrees = (tokens == draft_tokens) & (draft_tokens >= 0)
    return ExitScores(tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound)


def useful_threads(threads: int | None, bytes_to_read: int) -> int:
    """`threads`, or torch's number of them as far as each gets enough to read."""
    available = available_threads(threads)
    return available if threads is not None else max(1, min(available, bytes_to_read // PARALLEL_BYTES))


def available_threads(threads: int | None) -> int:
    """`threads`, or torch's number of them, where torch is in use."""
    if threads is not None:
        arguments.require(threads >= 1, "threads", "1 or more", threads)
        return threads
    torch = sys.modules.get("torch")
    return 1 if torch is None else int(torch.get_num_threads())


def require_sound(sound: Any, what: str) -> None:
    """Raise EdgespecError naming the rows of `sound` [R] that are False."""
    flags = np.asarray(sound.cpu() if arguments.is_tensor(sound) else sound)
    if not flags.all():
        raise EdgespecError(
            f"{what} are NaN or infinite in rows {np.flatnonzero(~flags).tolist()}: the model's weights are "
            "damaged, or its dtype overflows; load it in float32 or bfloat16."
        )


# The reference


def reference(
    hidden: Any,
    norm: Any,
    head: Any,
    temperatures: NDArray[np.float32],
    seeds: NDArray[np.uint64],
    positions: NDArray[np.int32],
    draft_tokens: NDArray[np.int32],
    settings: HeadSettings = PLAIN,
) -> ExitScores:
    """`exit_head` in plain numpy, with its products summed in float64; writes the logits out."""
    logits = reference_logits(hidden, norm, head, settings)
    columns = [
        _score_row(*row) for row in zip(logits, temperatures, seeds, positions, draft_tokens, strict=True)
    ]
    turned = zip(*columns, strict=True)
    tokens, margins, probabilities, logsumexps, draft_scores, sound = (np.array(column) for column in turned)
    return ExitScores(
        tokens.astype(np.int32),
        margins.astype(np.float32),
        probabilities.astype(np.float32),
        logsumexps.astype(np.float32),
        draft_scores.astype(np.float32),
        (tokens == draft_tokens) & (draft_tokens >= 0),
        sound,
    )


def reference_logits(
    hidden: Any, norm: Any, head: Any, settings: HeadSettings = PLAIN
) -> NDArray[np.float32]:
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
    logits: NDArray[np.float32],
    temperature: np.float32,
    seed: np.uint64,
    position: np.int32,
    draft_token: np.int32,
) -> tuple[int, float, float, float, float, bool]:
    """(token, margin, probability, log-sum-exp, draft's score, sound) of one row [V]."""
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
