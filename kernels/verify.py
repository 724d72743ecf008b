"""The verdict: final logits and a ragged batch of draft trees -> committed paths, next tokens, log-probabilities.

A session is greedy (temperature 0) or coupled (the token of the best noisy score). This file holds the public function and its
arguments, verify_reference.py the plain backend, csrc/sampling/verify.cpp the one for CPUs and verify_triton.py the one
for CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgespec.kernels import arguments
from edgespec.kernels.exit_head import MAX_POSITION, available_threads, require_sound
from edgespec.kernels.exit_verdict import Trees

DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Ragged:
    """Token ids, and a value for each where that is meant, of N lists: list n is [offsets[n], offsets[n + 1]).

    offsets int32 [N + 1], ids int32 [M], values float32 [M]. An id stands once in a list.
    """

    offsets: Any
    ids: Any
    values: Any = None


@dataclass(frozen=True)
class Samplings:
    """How each of S sessions samples; arrays [S], float64 but for those named otherwise.

    temperatures: 0 is greedy. top_k int32: 0 keeps all. top_p: 1 keeps all. min_p: 0 keeps all. penalties: repetition
    penalty, 1 is none. seeds uint64 (or int64 bits).
    """

    temperatures: Any
    top_k: Any
    top_p: Any
    min_p: Any
    penalties: Any
    seeds: Any

    @classmethod
    def same(
        cls,
        sessions: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Samplings:
        """Every session samples alike; parameters as in edgespec.SamplingParams."""
        return cls(
            np.full(sessions, temperature, np.float64),
            np.full(sessions, top_k, np.int32),
            np.full(sessions, top_p, np.float64),
            np.full(sessions, min_p, np.float64),
            np.full(sessions, repetition_penalty, np.float64),
            np.full(sessions, seed, np.uint64),
        )

    def checked(self, sessions: int) -> Samplings:
        """Contiguous arrays of the types above. Raises EdgespecError."""
        tiny = np.nextafter(0.0, 1.0)
        return Samplings(
            arguments.vector(
                "temperatures", self.temperatures, sessions, np.float64, 0, np.finfo(np.float32).max
            ),
            arguments.vector("top_k", self.top_k, sessions, np.int32, 0, 2**31 - 1),
            arguments.vector("top_p", self.top_p, sessions, np.float64, tiny, 1),
            arguments.vector("min_p", self.min_p, sessions, np.float64, 0, 1),
            arguments.vector(
                "penalties", self.penalties, sessions, np.float64, tiny, np.finfo(np.float32).max
            ),
            arguments.seeds("seeds", self.seeds, sessions),
        )


@dataclass(frozen=True)
class Verdicts:
    """One verdict a session, S of them; numpy arrays or CUDA tensors. P is the largest session's rows, less one.

    lengths int32 [S]: nodes on the path. paths int32 [S, max(P, 1)]: their rows, counted from the session's first,
    then -1. tokens int32 [S]: the correction or bonus token behind the path, -1 where the row that should decide it is
    not sound. logprobs float32 [S, P + 1]: of each committed token, the path's and then the next one, under the raw
    logits' softmax; then NaN. margins float32 [S, P + 1]: best minus second-best noisy score of those decisions, after
    all filters (infinite where they left one token). sound bool [S].
    """

    lengths: Any
    paths: Any
    tokens: Any
    logprobs: Any
    margins: Any
    sound: Any

    def require_sound(self) -> None:
        """Raise EdgespecError where a session met a row that is not sound."""
        require_sound(self.sound, "the target's logits, counted by sessions,")


def verify(
    logits: Any,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    *,
    seen: Ragged | None = None,
    biases: Ragged | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Verdicts:
    """The verdict on each session's draft tree.

    logits: [R, V], of any dtype of DTYPES (float64 stays float64, halves are raised to float32), contiguous; -inf is a
    token that cannot be; a row with NaN, with +inf or without a finite logit is not sound and never sampled from.
    trees: whose rows are whose, and their nodes. positions: int32 [R], absolute position of the token decided after
    each row (the row's own plus one). seen: per row, the different ids of its text so far, for the repetition penalty.
    biases: per session, ids and what is added to their logits.

    In transformers' order: bias, repetition penalty, temperature, top-k (ties at its edge stay), top-p (of equals at
    its edge the highest ids stay), min-p; then noise. backend and threads as in exit_head. Raises
    EdgespecError for an argument that does not fit.
    """
    if backend in ("auto", "cpu"):
        try:
            return _on_cpu(logits, trees, positions, samplings, seen, biases, threads)
        except (AttributeError, TypeError, ValueError):
            pass  # something is to be converted, is for another backend, or does not fit: below it is found out
    arguments.matrix("logits", logits, ("R", "V"), DTYPES)
    rows, vocabulary = logits.shape
    trees = trees.checked(rows, vocabulary)
    positions = arguments.vector("positions", positions, rows, np.int32, 0, MAX_POSITION)
    samplings = samplings.checked(trees.sessions)
    lists = (
        _ragged("seen", seen, rows, vocabulary),
        _ragged(
            "biases", biases, trees.sessions, vocabulary, -np.finfo(np.float32).max, np.finfo(np.float32).max
        ),
    )
    chosen = arguments.choose_backend(backend, logits)
    if chosen == "triton":
        from edgespec.kernels import verify_triton

        return verify_triton.launch(logits, trees, positions, samplings, *lists)
    arguments.require(arguments.device_of(logits) == "cpu", "logits", "on the CPU", "on a GPU")
    if chosen == "reference":
        from edgespec.kernels import verify_reference

        return verify_reference.verify(logits, trees, positions, samplings, *lists)
    return _on_cpu(logits, trees, positions, samplings, *lists, threads)


def _on_cpu(
    logits: Any,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    seen: Ragged | None,
    biases: Ragged | None,
    threads: int | None,
) -> Verdicts:
    """The backend in C++; it takes arrays of just the right types and refuses whatever does not fit, in few words."""
    from edgespec import _native

    words = arguments.raw(logits)
    return Verdicts(
        *_native.verify(
            words,
            arguments.dtype_name(logits),
            (trees.offsets, trees.parents, trees.tokens, positions),
            (
                samplings.temperatures,
                samplings.top_k,
                samplings.top_p,
                samplings.min_p,
                samplings.penalties,
                samplings.seeds,
            ),
            None if seen is None else (seen.offsets, seen.ids),
            None if biases is None else (biases.offsets, biases.ids, biases.values),
            available_threads(threads),
            threads is None,
        )
    )


def _ragged(
    name: str, given: Ragged | None, lists: int, vocabulary: int, low: float | None = None, high: float = 0
) -> Ragged:
    """`given` with its arrays checked; lists without entries where there is none. low: of the values, None for none."""
    if given is None:
        given = Ragged(np.zeros(lists + 1, np.int32), np.empty(0, np.int32))
        given = replace(given, values=None if low is None else np.empty(0, np.float32))
    offsets = arguments.vector(f"{name}.offsets", given.offsets, lists + 1, np.int32, 0, len(given.ids))
    ids = arguments.vector(f"{name}.ids", given.ids, None, np.int32, 0, vocabulary - 1)
    values = None
    if low is not None:
        values = arguments.vector(f"{name}.values", given.values, len(ids), np.float32, low, high)
    if isinstance(offsets, np.ndarray):
        rising = offsets[0] == 0 and offsets[-1] == len(ids) and bool((np.diff(offsets) >= 0).all())
        arguments.require(rising, f"{name}.offsets", f"rising from 0 to {len(ids)}", offsets.tolist())
        if isinstance(ids, np.ndarray):
            owners = np.repeat(np.arange(lists), np.diff(offsets))
            different = len(np.unique(owners.astype(np.int64) * vocabulary + ids)) == len(ids)
            arguments.require(different, f"{name}.ids", "different within each list", "repeated")
    return Ragged(offsets, ids, values)
