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
def walk(choices, parents, tree_tokens, first, size, session, lengths, paths, width, ROWS: tl.constexpr):
    """Follow the choices down a session's tree, whose rows other programs have decided: its path."""
    some = tl.arange(0, ROWS)
    steps = tl.maximum(width - 1, 1)
    path = paths + session * steps
    for start in range(0, steps, ROWS):
        tl.store(path + start + some, -1, start + some < steps)
    tl.debug_barrier()
    at = 0
    length = 0
    walking = True
    while walking:
        choice = tl.load(choices + first + at, cache_modifier=".cg")
        child = size
        for start in range(0, size, ROWS):
            row = start + some
            parent = tl.load(parents + first + row, row < size, -2)
            drafted = tl.load(tree_tokens + first + row, row < size, -2)
            is_child = (parent == at) & (drafted == choice) & (choice >= 0)
            child = tl.minimum(child, tl.min(tl.where(is_child, row, size)))
        walking = (child < size) & (length + 1 < width)
        if walking:
            tl.store(path + length, child)
            length += 1
            at = child
    tl.store(lengths + session, length)
