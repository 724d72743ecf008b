"""Device functions of verify's kernels: whose a row is, and the walk down a session's draft tree."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def session_of(row, offsets, sessions):
    """The session that owns a row, by bisection of offsets [S + 1]."""
    session = 0
    end = sessions
    while session + 1 < end:
        middle = (session + end) // 2
        if tl.load(offsets + middle) <= row:
            session = middle
        else:
            end = middle
    return session


@triton.jit
def walk(
    row_tokens, row_margins, row_logprobs, parents, tree_tokens, first, size, session,
    lengths, paths, next_tokens, logprobs, margins, width, ROWS: tl.constexpr,
):  # fmt: skip
    """Follow the decided tokens down a session's tree, whose rows other programs have decided: its verdict."""
    node = tl.arange(0, ROWS)
    real = node < size
    steps = tl.maximum(width - 1, 1)
    tl.store(margins + session * width + node, float("nan"), node < width)
    tl.store(logprobs + session * width + node, float("nan"), node < width)
    tl.store(paths + session * steps + node, -1, node < steps)
    tl.debug_barrier()
    parent = tl.load(parents + first + node, real, -2)
    drafted = tl.load(tree_tokens + first + node, real, -2)
    tokens = tl.load(row_tokens + first + node, real, -1, cache_modifier=".cg")
    own_margins = tl.load(row_margins + first + node, real, 0.0, cache_modifier=".cg")
    own_logprobs = tl.load(row_logprobs + first + node, real, 0.0, cache_modifier=".cg")
    at = 0
    length = 0
    walking = True
    next_token = -1
    while walking:
        next_token = tl.sum(tl.where(node == at, tokens, 0))
        to = session * width + length
        tl.store(margins + to, tl.sum(tl.where(node == at, own_margins, 0.0)))
        tl.store(logprobs + to, tl.sum(tl.where(node == at, own_logprobs, 0.0)))
        is_child = (parent == at) & (drafted == next_token) & (next_token >= 0)
        child = tl.min(tl.where(is_child, node, ROWS))
        walking = (child < ROWS) & (length + 1 < width)
        if walking:
            tl.store(paths + session * steps + length, child)
            length += 1
            at = child
    tl.store(lengths + session, length)
    tl.store(next_tokens + session, next_token)
