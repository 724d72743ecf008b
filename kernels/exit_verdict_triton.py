"""The CUDA backend of exit_verdict: the walk down a draft tree as one program, and its launch alone.

exit_head_triton.py enters `walk` into its last launch. Imported only where Triton is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from edgespec.kernels import arguments
from edgespec.kernels.exit_verdict import Curves, Hints, Trees


@triton.jit
def probability_at(margin, margins, probabilities, knots, KNOTS: tl.constexpr):
    """The curve's probability at one margin: linear between its knots, level beyond them."""
    k = tl.arange(0, KNOTS)
    real = k < knots
    xs = tl.load(margins + k, real, float("inf"))
    ys = tl.load(probabilities + k, real, 0.0)
    below = tl.sum((real & (xs <= margin)).to(tl.int32)) - 1
    left = tl.maximum(below, 0)
    right = tl.minimum(left + 1, knots - 1)
    x0 = tl.sum(tl.where(k == left, xs, 0.0) * real.to(tl.float32))
    x1 = tl.sum(tl.where(real & (k == right), xs, 0.0))
    y0 = tl.sum(tl.where(k == left, ys, 0.0))
    y1 = tl.sum(tl.where(k == right, ys, 0.0))
    inside = (below >= 0) & (below + 1 < knots)
    share = (margin - x0) / tl.where(x1 > x0, x1 - x0, 1.0)
    return tl.where(inside, y0 + share * (y1 - y0), y0)


@triton.jit
def walk(
    tokens,  # int32 [ROWS], decided after each of one session's rows; -1: not sound
    margins,  # float32 [ROWS]
    parents,  # int32 [ROWS], -2 beyond the session's rows
    drafted,  # int32 [ROWS], the nodes' tokens
    curve_margins,  # float32 [knots]
    curve_probabilities,  # float32 [knots]
    knots,
    path,  # int32 [path_width], out
    path_width,
    ROWS: tl.constexpr,
    KNOTS: tl.constexpr,
):
    """The path's length, its last row (0 where it is empty), the token behind it, the product of the probabilities."""
    row = tl.arange(0, ROWS)
    at = 0
    length = 0
    confidence = 1.0
    walking = True
    token = -1
    for _ in range(0, ROWS):
        if walking:
            token = tl.sum(tl.where(row == at, tokens, 0))
            margin = tl.sum(tl.where(row == at, margins, 0.0))
            probability = probability_at(margin, curve_margins, curve_probabilities, knots, KNOTS)
            confidence = tl.where(token < 0, 0.0, confidence * probability)
            is_child = (parents == at) & (drafted == token) & (token >= 0)
            child = tl.min(tl.where(is_child, row, ROWS))
            walking = (child < ROWS) & (length < path_width)
            if walking:
                tl.store(path + length, child)
                length += 1
                at = child
    return length, at, token, confidence


@triton.jit
def publish(
    cells,  # int32 [2, places, exits, 8], in memory of the host
    sequence,  # int32 [1], the forward's number
    place,
    exit,
    places,
    exits,
    length,
    end,
    token,
    confidence,
):
    """Write a cell whole, its sequence number last, so that the host sees what comes before it.

    csrc/net/hint_mailbox.hpp says what is where."""
    number = tl.load(sequence)
    cell = cells + (((number & 1) * places + place) * exits + exit) * 8
    tl.store(cell + 1, length)
    tl.store(cell + 2, end)
    tl.store(cell + 3, token)
    tl.store(cell + 4, confidence.to(tl.int32, bitcast=True))
    tl.debug_barrier()
    tl.atomic_xchg(cell, number, sem="release", scope="sys")


@triton.jit
def exit_verdict(
    tokens,  # int32 [R]
    margins,  # float32 [R]
    offsets,  # int32 [S + 1]
    parents,  # int32 [R]
    tree_tokens,  # int32 [R]
    curve_margins,  # float32 [C, K]
    curve_probabilities,  # float32 [C, K]
    curve_of,  # int32 [S]
    lengths,  # int32 [S], out; so are the next
    paths,  # int32 [S, path_width]
    next_tokens,  # int32 [S]
    confidences,  # float32 [S]
    knots,
    path_width,
    ROWS: tl.constexpr,
    KNOTS: tl.constexpr,
):
    """One session's hint."""
    session = tl.program_id(0)
    first = tl.load(offsets + session)
    row = tl.arange(0, ROWS)
    real = row < tl.load(offsets + session + 1) - first
    curve = tl.load(curve_of + session) * knots
    length, _, token, confidence = walk(
        tl.load(tokens + first + row, real, -1), tl.load(margins + first + row, real, 0.0),
        tl.load(parents + first + row, real, -2), tl.load(tree_tokens + first + row, real, -2),
        curve_margins + curve, curve_probabilities + curve, knots, paths + session * path_width, path_width, ROWS, KNOTS,
    )  # fmt: skip
    tl.store(lengths + session, length)
    tl.store(next_tokens + session, token)
    tl.store(confidences + session, confidence)


def trees_on(trees: Trees, device: torch.device) -> tuple[Trees, int]:
    """The trees on the device, and the rows of the largest session (of trees that are there already, as they say)."""
    offsets, parents, tokens = (
        arguments.on_device(part, device, torch.int32)
        for part in (trees.offsets, trees.parents, trees.tokens)
    )
    if isinstance(trees.offsets, np.ndarray):
        return Trees(offsets, parents, tokens), int(np.diff(trees.offsets).max())
    return Trees(offsets, parents, tokens), trees.largest or len(trees.parents)


def curves_on(curves: Curves, curve_of: Any, device: torch.device) -> tuple[Any, Any, Any, int]:
    """(margins [C, K], probabilities [C, K], curve of each session, K) on the device."""
    table = (
        arguments.on_device(part, device, torch.float32) for part in (curves.margins, curves.probabilities)
    )
    return (*table, arguments.on_device(curve_of, device, torch.int32), int(curves.margins.shape[1]))


def launch(tokens: torch.Tensor, margins: torch.Tensor, trees: Trees, curves: Curves, curve_of: Any) -> Hints:
    """As edgespec.kernels.exit_verdict.exit_verdict, whose checks have passed."""
    device = tokens.device
    own, largest = trees_on(trees, device)
    sessions, path_width = len(own.offsets) - 1, max(1, largest - 1)
    table = curves_on(curves, curve_of, device)
    hints = Hints(
        torch.empty(sessions, dtype=torch.int32, device=device),
        torch.full((sessions, path_width), -1, dtype=torch.int32, device=device),
        torch.empty(sessions, dtype=torch.int32, device=device),
        torch.empty(sessions, dtype=torch.float32, device=device),
    )
    exit_verdict[(sessions,)](
        tokens, margins, own.offsets, own.parents, own.tokens, *table[:3],
        hints.lengths, hints.paths, hints.tokens, hints.confidences, table[3], path_width,
        ROWS=triton.next_power_of_2(largest), KNOTS=triton.next_power_of_2(table[3]), num_warps=1,
    )  # fmt: skip
    return hints
