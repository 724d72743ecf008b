"""exit_verdict on CUDA: the walk down a draft tree and the hint's cell, as device functions of exit_head_triton.py."""

from __future__ import annotations

import triton
import triton.language as tl


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
    knots,  # of the curve
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
            walking = child < ROWS
            if walking:
                length += 1
                at = child
    return length, at, token, confidence


@triton.jit
def publish(
    cells,  # int32 [2, places, exits, 8], in memory of the host
    sequence,  # int32 [1], the forward's number
    place,  # the session's, of `places`
    exit,  # of `exits`
    places,
    exits,
    length,  # nodes on the path
    end,  # the path's last row
    token,  # behind the path
    confidence,
):
    """Write a cell, its sequence number last, so that the host then sees all of it (csrc/net/hint_mailbox.hpp)."""
    number = tl.load(sequence)
    cell = cells + (((number & 1) * places + place) * exits + exit) * 8
    tl.store(cell + 1, length)
    tl.store(cell + 2, end)
    tl.store(cell + 3, token)
    tl.store(cell + 4, confidence.to(tl.int32, bitcast=True))
    tl.debug_barrier()
    tl.atomic_xchg(cell, number, sem="release", scope="sys")
