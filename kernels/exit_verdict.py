"""From an exit's guesses to the hint: walk the draft tree as the verdict will, and multiply the calibrated probabilities.

Public function and plain reference; csrc/sampling/exit_verdict.cpp is the backend for CPUs. On CUDA the walk is part of
the last launch of `exit_head` (exit_head_triton.py), so that a hint costs no launch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.kernels import arguments

ROOT_ROW = -1
"""The parent of a session's first row: the committed text."""


@dataclass(frozen=True)
class Trees:
    """A ragged batch of draft trees: session s owns the rows offsets[s] .. offsets[s + 1].

    offsets int32 [S + 1], rising from 0 to R. A session's first row is the committed text's last token, its parent
    ROOT_ROW; every other row is a node of the draft tree, parents before children: parents int32 [R] counts rows from
    the session's first, tokens int32 [R] holds each node's token (that of a first row is not looked at). largest: rows
    of the largest session at most, for arrays on a GPU; None: all of them.
    """

    offsets: Any
    parents: Any
    tokens: Any
    largest: int | None = None

    @property
    def sessions(self) -> int:
        return len(self.offsets) - 1

    def checked(self, rows: int, vocabulary_size: int) -> Trees:
        """Contiguous int32 arrays. Raises EdgespecError for trees that are not as described. CUDA tensors are only
        checked for their shapes: their values are checked where they are used."""
        offsets = arguments.vector("offsets", self.offsets, None, np.int32, 0, rows)
        arguments.require(len(offsets) >= 2, "offsets", "[S + 1] with a session or more", [len(offsets)])
        parents = arguments.vector("parents", self.parents, rows, np.int32, ROOT_ROW, rows - 1)
        tokens = arguments.vector("tokens", self.tokens, rows, np.int32, -1, vocabulary_size - 1)
        if isinstance(offsets, np.ndarray):
            sizes = np.diff(offsets)
            whole = offsets[0] == 0 and offsets[-1] == rows and bool((sizes >= 1).all())
            arguments.require(whole, "offsets", f"rising from 0 to {rows}", offsets.tolist())
            own = np.arange(rows) - np.repeat(offsets[:-1], sizes)
            first = own == 0
            in_order = (
                (parents[first] == ROOT_ROW).all() and (parents[~first] >= 0).all() and (parents < own).all()
            )
            wanted = "-1 in a session's first row, else an earlier row"
            arguments.require(bool(in_order), "parents", wanted, parents.tolist())
            named = bool((tokens[~first] >= 0).all())
            arguments.require(named, "tokens", "token ids from 0 in all but first rows", tokens.tolist())
        return Trees(offsets, parents, tokens, self.largest)


@dataclass(frozen=True)
class Curves:
    """Calibration curves for kernels: c is linear between its knots (margins[c, k], probabilities[c, k]), level outside.

    margins, probabilities: float32 [C, K], numpy arrays or tensors; short curves repeat their last knot.
    """

    margins: Any
    probabilities: Any
    temperatures: tuple[float, ...]

    @classmethod
    def of(cls, calibration: Calibration) -> Curves:
        """The curves of rank 0, one a temperature."""
        known = sorted(calibration.curves)
        curves = [calibration.curves[temperature][0] for temperature in known]
        knots = max(len(margins) for margins, _ in curves)
        padded = [
            np.stack([np.pad(part, (0, knots - len(part)), mode="edge") for part in curve])
            for curve in curves
        ]
        table = np.stack(padded).astype(np.float32)
        return cls(np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]), tuple(known))

    def on(self, device: Any) -> Curves:
        """The same as torch tensors on a device."""
        margins, probabilities = (
            arguments.on_device(part, device, None) for part in (self.margins, self.probabilities)
        )
        return Curves(margins, probabilities, self.temperatures)

    def index(self, temperatures: Sequence[float]) -> NDArray[np.int32]:
        """The curve of each temperature: the nearest, the lower of two as near."""
        known = np.array(self.temperatures)
        wanted = np.asarray(temperatures, dtype=np.float64)
        nearest: NDArray[np.int32] = np.abs(known[None] - wanted[:, None]).argmin(-1).astype(np.int32)
        return nearest


@dataclass(frozen=True)
class Hints:
    """One hint a session, S of them; numpy arrays or CUDA tensors.

    lengths int32 [S]: nodes on the path. paths int32 [S, P]: their rows, counted from the session's first, then -1; P
    is at least the largest session's rows less one. tokens int32 [S]: the token behind the path, -1 where a row on the
    way is not sound. confidences float32 [S]: product of the calibrated probabilities of all rows used, 0 where not sound.
    """

    lengths: Any
    paths: Any
    tokens: Any
    confidences: Any


def exit_verdict(
    tokens: Any, margins: Any, trees: Trees, curves: Curves, curve_of: Any, *, backend: str = "auto"
) -> Hints:
    """The hint of each session, from exit_head's tokens int32 [R] (-1: not sound) and margins float32 [R].

    curve_of: int32 [S], the curve of each session's temperature, from Curves.index. Raises EdgespecError.
    """
    arguments.matrix("tokens", tokens, ("R",), ("int32",))
    rows = len(tokens)
    arguments.matrix("margins", margins, (rows,), ("float32",))
    devices = {arguments.device_of(array) for array in (tokens, margins)}
    arguments.require(len(devices) == 1, "tokens and margins", "on one device", sorted(devices))
    arguments.matrix("curves.margins", curves.margins, ("C", "K"), ("float32",))
    arguments.matrix("curves.probabilities", curves.probabilities, tuple(curves.margins.shape), ("float32",))
    checked = trees.checked(rows, 2**31 - 1)
    chosen_curves = arguments.vector(
        "curve_of", curve_of, checked.sessions, np.int32, 0, len(curves.margins) - 1
    )
    chosen = arguments.choose_backend(backend, tokens)
    if devices == {"cpu"}:
        missing = np.isnan(np.asarray(margins)) & (np.asarray(tokens) >= 0)
        arguments.require(not missing.any(), "margins", "numbers where tokens are not -1", "NaN")
    if chosen == "triton":
        from edgespec.kernels import exit_verdict_triton

        return exit_verdict_triton.launch(tokens, margins, checked, curves, chosen_curves)
    arguments.require(devices == {"cpu"}, "tokens", "on the CPU", "on a GPU")
    plain = np.asarray(tokens), np.asarray(margins)
    if chosen == "reference":
        return reference(*plain, checked, curves, chosen_curves)
    return on_cpu(*plain, checked, curves, chosen_curves)


def on_cpu(
    tokens: NDArray[np.int32],
    margins: NDArray[np.float32],
    trees: Trees,
    curves: Curves,
    curve_of: NDArray[np.int32],
) -> Hints:
    """`exit_verdict` in C++, of trees that are `checked`: for callers that use theirs again and again."""
    from edgespec import _native

    return Hints(
        *_native.exit_verdict(
            tokens,
            margins,
            trees.offsets,
            trees.parents,
            trees.tokens,
            curves.margins,
            curves.probabilities,
            curve_of,
        )
    )


def reference(
    tokens: NDArray[np.int32],
    margins: NDArray[np.float32],
    trees: Trees,
    curves: Curves,
    curve_of: NDArray[np.int32],
) -> Hints:
    """`exit_verdict` in plain Python."""
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
        curve = curve_of[session]
        used = margins[rows][[0, *path]]
        probabilities = np.interp(used, curves.margins[curve], curves.probabilities[curve])
        hints.lengths[session] = len(path)
        hints.paths[session, : len(path)] = path
        hints.tokens[session] = token
        hints.confidences[session] = probabilities.prod() if token >= 0 else 0
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
