"""From an exit's guesses to the hint: walk the draft tree as the verdict will, and multiply calibrated probabilities.

On CUDA the walk is part of the last launch of an exit (exit_verdict_triton.py), so that a hint costs no launch of its
own: see exit_hint.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from edgespec.kernels import arguments
from edgespec.kernels.arguments import FLOAT32, INT32
from edgespec.kernels.data import Curves, Hints, Trees


def exit_verdict(tokens: Any, margins: Any, trees: Trees, curves: Curves, curve_of: Any) -> Hints:
    """The hint of each session, on the host.

    tokens: int32 [R], the token guessed after each row, -1 where it is not sound. margins: float32 [R]. curve_of: int32
    [S], the curve of each session's temperature (`Curves.index`). Raises EdgespecError for an argument that does not
    fit; that trees are trees is checked by `Trees.of`.
    """
    tokens = arguments.column("tokens", tokens, INT32, None)
    margins = arguments.column("margins", margins, FLOAT32, len(tokens))
    arguments.matrix("curves.margins", curves.margins, ("C", "K"), ("float32",))
    arguments.matrix("curves.probabilities", curves.probabilities, tuple(curves.margins.shape), ("float32",))
    trees = trees.checked(len(tokens))
    curve_of = arguments.column("curve_of", curve_of, INT32, trees.sessions)
    arguments.in_range("curve_of", curve_of, 0, len(curves.margins) - 1)
    table = arguments.raw(curves.margins), arguments.raw(curves.probabilities)
    offsets = trees.offsets.tolist()
    widest = max(1, max(end - first for first, end in pairwise(offsets)) - 1)
    hints = Hints(
        np.zeros(trees.sessions, np.int32),
        np.full((trees.sessions, widest), -1, np.int32),
        np.full(trees.sessions, -1, np.int32),
        np.zeros(trees.sessions, np.float32),
    )
    for session in range(trees.sessions):
        rows = slice(offsets[session], offsets[session + 1])
        guessed = tokens[rows].tolist()
        path = trees.of_session(session).walk(guessed)
        knots, probabilities = (part[curve_of[session]] for part in table)
        hints.lengths[session] = len(path)
        hints.paths[session, : len(path)] = path
        token = hints.tokens[session] = guessed[path[-1] if path else 0]
        used = np.interp(margins[rows][[0, *path]], knots, probabilities)
        hints.confidences[session] = used.prod() if token >= 0 else 0
    return hints
