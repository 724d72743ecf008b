"""From an exit's guesses to the hint: walk the draft tree as the verdict will, and multiply calibrated probabilities.

The backends are `walk` below and csrc/sampling/exit_verdict.cpp. On CUDA the walk is part of the last launch of an exit
(exit_verdict_triton.py), so that a hint costs no launch of its own: see exit_hint.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec import _native
from edgespec.kernels import arguments
from edgespec.kernels.arguments import FLOAT32, INT32
from edgespec.kernels.data import Curves, Hints, Trees


def exit_verdict(
    tokens: Any, margins: Any, trees: Trees, curves: Curves, curve_of: Any, *, backend: str = "cpu"
) -> Hints:
    """The hint of each session, on the host.

    tokens: int32 [R], the token guessed after each row, -1 where it is not sound. margins: float32 [R]. curve_of: int32
    [S], the curve of each session's temperature (`Curves.index`). backend: "cpu" or "reference". Raises EdgespecError
    for an argument that does not fit; that trees are trees is checked by `Trees.of`.
    """
    arguments.require(backend in ("cpu", "reference"), "backend", "cpu or reference", repr(backend))
    tokens = arguments.column("tokens", tokens, INT32, None)
    margins = arguments.column("margins", margins, FLOAT32, len(tokens))
    arguments.matrix("curves.margins", curves.margins, ("C", "K"), ("float32",))
    arguments.matrix("curves.probabilities", curves.probabilities, tuple(curves.margins.shape), ("float32",))
    trees = trees.checked(len(tokens))
    curve_of = arguments.column("curve_of", curve_of, INT32, trees.sessions)
    arguments.in_range("curve_of", curve_of, 0, len(curves.margins) - 1)
    table = arguments.raw(curves.margins), arguments.raw(curves.probabilities)
    if backend == "reference":
        return _reference(tokens, margins, trees, table, curve_of)
    return Hints(
        *_native.exit_verdict(tokens, margins, trees.offsets, trees.parents, trees.tokens, *table, curve_of)
    )


def _reference(
    tokens: NDArray[np.int32],
    margins: NDArray[np.float32],
    trees: Trees,
    curves: tuple[NDArray[np.float32], NDArray[np.float32]],
    curve_of: NDArray[np.int32],
) -> Hints:
    widest = max(1, int(np.diff(trees.offsets).max()) - 1)
    hints = Hints(
        np.zeros(trees.sessions, np.int32),
        np.full((trees.sessions, widest), -1, np.int32),
        np.full(trees.sessions, -1, np.int32),
        np.zeros(trees.sessions, np.float32),
    )
    for session in range(trees.sessions):
        rows = slice(trees.offsets[session], trees.offsets[session + 1])
        path, token = walk(tokens[rows], trees.parents[rows], trees.tokens[rows])
        knots, probabilities = (table[curve_of[session]] for table in curves)
        hints.lengths[session] = len(path)
        hints.paths[session, : len(path)] = path
        hints.tokens[session] = token
        used = np.interp(margins[rows][[0, *path]], knots, probabilities)
        hints.confidences[session] = used.prod() if token >= 0 else 0
    return hints


def walk(
    decided: NDArray[np.int32], parents: NDArray[np.int32], tokens: NDArray[np.int32]
) -> tuple[list[int], int]:
    """Follow the tokens decided after each row [R] down one session's tree: the path's rows, the token behind it."""
    path: list[int] = []
    row = 0
    while True:
        token = int(decided[row])
        children = np.flatnonzero((parents == row) & (tokens == token))
        if token < 0 or not len(children):
            return path, token
        row = int(children[0])
        path.append(row)
