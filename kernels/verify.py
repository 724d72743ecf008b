"""The verdict: final logits and a ragged batch of draft trees -> choices, their log-probabilities, committed paths.

A session is greedy (temperature 0) or coupled (the token of the best noisy score). The backends are
verify_reference.py, csrc/sampling/verify.cpp and, for CUDA, verify_launch.py with verify_triton.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.kernels import arguments, verify_reference
from edgespec.kernels.arguments import INT32
from edgespec.kernels.data import Ragged, Samplings, Trees, Verdicts
from edgespec.kernels.exit_head import available_threads

DTYPES = ("float32", "bfloat16", "float16", "float64")


def verify(
    logits: Any,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    *,
    seen: Ragged | None = None,
    biases: Ragged | None = None,
    placed: Trees | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Verdicts:
    """What is chosen behind each row, and the walk of the choices down each session's draft tree.

    logits: [R, V], of any dtype of DTYPES (float64 stays float64 and is not for triton, halves are raised to float32),
    contiguous; -inf is a token that cannot be; a row with NaN, with +inf or without a finite logit is not sound and
    never sampled from. trees: whose rows are whose, and their nodes. positions: int32 [R], absolute position of the
    token decided after each row (the row's own plus one). seen: per row, the ids of its text so far, for the repetition
    penalty. biases: per row, ids and what is added to their logits. placed: the same trees, where they are on the rows'
    device already. backend and threads as in exit_head.

    In transformers' order: bias, repetition penalty, temperature, top-k (ties at its edge stay), top-p (of equals at
    its edge the highest ids stay), min-p; then noise. Raises EdgespecError for an argument that does not fit; values
    that are on a GPU are not checked.
    """
    arguments.matrix("logits", logits, ("R", "V"), DTYPES)
    rows, vocabulary = logits.shape
    trees = trees.checked(rows)
    positions = arguments.column("positions", positions, INT32, rows)
    samplings = samplings.checked(trees.sessions)
    seen = None if seen is None else seen.checked("seen", rows, valued=False)
    biases = None if biases is None else biases.checked("biases", rows, valued=True)
    placed = None if placed is None else placed.checked(rows)
    chosen = arguments.choose_backend(backend, logits)
    narrow = chosen != "triton" or arguments.dtype_name(logits) != "float64"
    arguments.require(narrow, "logits", "float32 or a half for triton", "float64", "copy them to the CPU")
    columns = _columns(trees, positions, samplings, seen, biases)
    try:  # C++ checks all values of the columns, and names the one that does not fit
        if chosen == "cpu":
            read = arguments.raw(logits), arguments.dtype_name(logits)
            return Verdicts(*_native.verify(*read, *columns, available_threads(threads), threads is None))
        if isinstance(trees.offsets, np.ndarray):
            _native.check_verify(rows, vocabulary, *columns)
    except ValueError as error:
        raise EdgespecError(f"{error}: correct the call.") from None
    if chosen == "reference":
        return verify_reference.verify(logits, trees, positions, samplings, seen, biases)
    from edgespec.kernels import verify_launch  # imports torch

    return verify_launch.verify(logits, trees, positions, samplings, seen, biases, placed)


def _columns(
    trees: Trees, positions: Any, samplings: Samplings, seen: Ragged | None, biases: Ragged | None
) -> tuple[Any, Any, Any, Any]:
    """As C++ takes them."""
    return (
        (trees.offsets, trees.parents, trees.tokens, positions),
        tuple(vars(samplings).values()),
        None if seen is None else (seen.offsets, seen.ids),
        None if biases is None else (biases.offsets, biases.ids, biases.values),
    )
