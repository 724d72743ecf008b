"""exit_head on CUDA: three kernels, and a tree's hint comes with the last.

First, a program a row normalises it. Then programs share out the vocabulary in tiles; each multiplies its tiles (every
byte of the head is read once for all rows) and keeps what it needs of each row. Last, a program a session joins those
parts in fixed order, and walks the session's draft tree. exit_head_launch.py starts them. Imports Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels.exit_verdict_triton import publish, walk
from edgespec.kernels.philox_triton import about_gumbel, gumbel, rows_words, words_of
from edgespec.kernels.scores_triton import add_product, soft_capped

NO_TOKEN = tl.constexpr(2147483647)


@triton.jit(do_not_specialize=["epsilon"])
def exit_head_rows(
    hidden,  # [R, D]
    norm,  # [D]
    normed,  # [R, D], out
    dim,  # D
    epsilon,  # of the RMS norm
    WIDTH: tl.constexpr,  # elements that are read at once
):
    """One row, normalised: round(round(h / sqrt(mean(h^2) + epsilon)) * norm)."""
    row = tl.program_id(0) * dim
    at = tl.arange(0, WIDTH)
    squares = tl.zeros((WIDTH,), tl.float32)
    for d in range(0, dim, WIDTH):
        h = tl.load(hidden + row + d + at, d + at < dim, 0.0).to(tl.float32)
        squares += h * h
    scale = 1.0 / tl.sqrt_rn(tl.sum(squares) / dim + epsilon)
    for d in range(0, dim, WIDTH):
        h = tl.load(hidden + row + d + at, d + at < dim, 0.0)
        factor = tl.load(norm + d + at, d + at < dim, 0.0).to(tl.float32)
        scaled = (h.to(tl.float32) * scale).to(h.dtype).to(tl.float32)
        tl.store(normed + row + d + at, (scaled * factor).to(h.dtype), d + at < dim)


@triton.jit(
    do_not_specialize=["rows", "vocabulary", "logit_scale", "softcap"],
    do_not_specialize_on_alignment=["scales", "temperatures", "seeds", "positions", "parts"],
)
def exit_head_parts(
    normed,  # [R, D]
    head,  # [V, D], of the rows' type or int8
    scales,  # float32 [V], of an int8 head; else not read
    temperatures,  # float32 [R]
    seeds,  # int64 [R]
    positions,  # int32 [R]
    parts,  # float32 [programs, 4, R]: best, second-best, token as its bits, above 0 where a logit is not finite
    rows,  # R
    dim,  # D
    vocabulary,  # V
    logit_scale,  # factor on the logits
    softcap,  # 0: none
    ROWS: tl.constexpr,  # R or more and 16 or more, a power of 2
    TILE: tl.constexpr,  # tokens of the head that are multiplied at once
    DEPTH: tl.constexpr,  # elements of D that are read at once
):
    """What each program's tiles say of each row.

    Tokens are compared with noise that is off by less than 1e-4; the best two then get theirs exactly.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    row = tl.arange(0, ROWS)
    real = row < rows
    noisy, divisor, low, high, position = _sampled(temperatures, seeds, positions, row, real)
    best = tl.full((ROWS,), float("-inf"), tl.float32)
    second = tl.full((ROWS,), float("-inf"), tl.float32)
    token = tl.full((ROWS,), NO_TOKEN, tl.int32)
    other = tl.full((ROWS,), NO_TOKEN, tl.int32)  # the second-best's
    special = tl.zeros((ROWS,), tl.float32)
    for tile in range(program, tl.cdiv(vocabulary, TILE), programs):
        ids = tile * TILE + tl.arange(0, TILE)
        known = ids < vocabulary
        z = _products(normed, head, scales, row, real, ids, known, dim, ROWS, TILE, DEPTH)
        z = soft_capped(z * logit_scale, softcap)
        z = tl.div_rn(z, tl.broadcast_to(divisor[:, None], (ROWS, TILE)))
        special += tl.sum(tl.where(known[None, :] & ~(tl.abs(z) < float("inf")), 1.0, 0.0), 1)
        z = tl.where(known[None, :], z, float("-inf"))
        noise = about_gumbel(rows_words(tile * TILE, position, low, high, ROWS, TILE))
        s = z + tl.where(noisy[:, None], noise, 0.0)
        own_best, own_token = _best(s, ids)
        own_second, own_other = _best(tl.where(ids[None, :] == own_token[:, None], float("-inf"), s), ids)
        best, token, second, other = _better(
            best, token, second, other, own_best, own_token, own_second, own_other
        )
    best = _exactly(best, token, noisy, position, low, high)
    second = _exactly(second, other, noisy, position, low, high)
    _store_part(parts + program * 4 * rows + row, rows, real, best, token, second, other, special)


@triton.jit
def _store_part(to, rows, real, best, token, second, other, special):
    """The better of two tokens of each row first; of equals the lowest."""
    swapped = (second > best) | ((second == best) & (other < token))
    tl.store(to, tl.where(swapped, second, best), real)
    tl.store(to + rows, tl.where(swapped, best, second), real)
    tl.store(to + 2 * rows, tl.where(swapped, other, token).to(tl.float32, bitcast=True), real)
    tl.store(to + 3 * rows, special, real)


@triton.jit
def _sampled(temperatures, seeds, positions, row, real):
    """How each row is sampled: whether with noise, its divisor, its seed's halves, its position."""
    temperature = tl.load(temperatures + row, real, 0.0)
    noisy = temperature > 0
    divisor = tl.where(noisy, temperature, 1.0)
    seed = tl.load(seeds + row, real, 0)
    position = tl.load(positions + row, real, 0).to(tl.uint32)
    return noisy, divisor, seed.to(tl.uint32), (seed >> 32).to(tl.uint32), position


@triton.jit
def _products(
    normed,
    head,
    scales,
    row,
    real,
    ids,
    known,
    dim,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Logits [ROWS, TILE] of the tokens `ids`, unscaled."""
    depth = tl.arange(0, DEPTH)
    z = tl.zeros((ROWS, TILE), tl.float32)
    for d in range(0, dim, DEPTH):
        deep = d + depth < dim
        x = tl.load(normed + row[:, None] * dim + d + depth[None, :], real[:, None] & deep[None, :], 0.0)
        at = ids[:, None].to(tl.int64) * dim + d + depth[None, :]
        w = tl.load(head + at, known[:, None] & deep[None, :], 0.0)
        z = add_product(z, x, tl.trans(w))
    if head.dtype.element_ty == tl.int8:
        z *= tl.load(scales + ids, known, 0.0)[None, :]
    return z


@triton.jit
def _better(best, token, second, other, own_best, own_token, own_second, own_other):
    """The best two of each row's two pairs, with their tokens; of equals the lowest."""
    better = (own_best > best) | ((own_best == best) & (own_token < token))
    lesser, lesser_token = tl.where(better, best, own_best), tl.where(better, token, own_token)
    rest, rest_token = tl.where(better, own_second, second), tl.where(better, own_other, other)
    second = tl.maximum(lesser, rest)
    other = tl.where(lesser >= rest, lesser_token, rest_token)
    return tl.where(better, own_best, best), tl.where(better, own_token, token), second, other


@triton.jit
def _best(scores, ids):
    """The best of each row's scores [ROWS, TILE], and its token; of equals the lowest."""
    best = tl.max(scores, 1)
    return best, tl.min(tl.where(scores == best[:, None], ids[None, :], NO_TOKEN), 1)


@triton.jit
def _exactly(score, token, noisy, position, low, high):
    """Scores [ROWS] with the noise that their tokens have exactly, in place of about that."""
    words = words_of(token, position, low, high)
    exact = score - about_gumbel(words) + gumbel(words)
    return tl.where(noisy & (score > float("-inf")), exact, score)


@triton.jit(
    do_not_specialize=["rows", "programs", "knots", "exit", "places", "exits"],
    do_not_specialize_on_alignment=[
        "parts", "tokens", "margins", "offsets", "parents", "tree_tokens", "curve_margins", "curve_probabilities",
        "curve_of", "cells", "sequence",
    ],
)  # fmt: skip
def exit_head_finish(
    parts,  # float32 [programs, 4, R]
    tokens,  # int32 [R], out
    margins,  # float32 [R], out
    offsets,  # int32 [S + 1]
    parents,  # int32 [R]
    tree_tokens,  # int32 [R]
    curve_margins,  # float32 [C, K]
    curve_probabilities,  # float32 [C, K]
    curve_of,  # int32 [S]
    cells,  # int32 [2, places, exits, 8], in memory of the host
    sequence,  # int32 [1]
    rows,  # R
    programs,  # that wrote parts
    knots,  # K
    exit,  # which of `exits`
    places,
    exits,
    ROWS: tl.constexpr,  # rows of the largest session, a power of 2
    KNOTS: tl.constexpr,  # K or more, a power of 2
    HINT: tl.constexpr,  # walk the tree and write the cell
    PROGRAMS: tl.constexpr,  # programs whose parts are joined at once
):
    """Joins the parts of one session's rows; then, if HINT, walks its tree and writes its cell."""
    session = tl.program_id(0)
    first = tl.load(offsets + session)
    size = tl.load(offsets + session + 1) - first
    row = tl.arange(0, ROWS)
    real = row < size
    best, second, token, special = _joined(parts, first, row, real, rows, programs, ROWS, PROGRAMS)
    sound = (special == 0) & (token != NO_TOKEN)
    token = tl.where(sound, token, -1)
    margin = tl.where(sound, best - second, float("nan"))
    tl.store(tokens + first + row, token, real)
    tl.store(margins + first + row, margin, real)
    if HINT:
        parent = tl.load(parents + first + row, real, -2)
        drafted = tl.load(tree_tokens + first + row, real, -2)
        curve = tl.load(curve_of + session) * knots
        length, end, next_token, confidence = walk(
            token, margin, parent, drafted, curve_margins + curve, curve_probabilities + curve, knots, ROWS, KNOTS,
        )  # fmt: skip
        publish(cells, sequence, session, exit, places, exits, length, end, next_token, confidence)


@triton.jit
def _joined(parts, first, row, real, rows, programs, ROWS: tl.constexpr, PROGRAMS: tl.constexpr):
    """(best, second-best, token, above 0 where a logit is not finite) of each row from `first` on, of all programs."""
    best = tl.full((ROWS,), float("-inf"), tl.float32)
    second = tl.full((ROWS,), float("-inf"), tl.float32)
    token = tl.full((ROWS,), NO_TOKEN, tl.int32)
    special = tl.zeros((ROWS,), tl.float32)
    for start in range(0, programs, PROGRAMS):
        program = start + tl.arange(0, PROGRAMS)
        inside = (program < programs)[:, None] & real[None, :]
        at = parts + program[:, None] * 4 * rows + first + row[None, :]
        bests = tl.load(at, inside, float("-inf"))
        seconds = tl.load(at + rows, inside, float("-inf"))
        ids = tl.load(at + 2 * rows, inside, 0.0).to(tl.int32, bitcast=True)
        special += tl.sum(tl.load(at + 3 * rows, inside, 0.0), 0)
        own_best = tl.max(bests, 0)
        own_token = tl.min(tl.where(bests == own_best[None, :], ids, NO_TOKEN), 0)
        own = inside & (ids == own_token[None, :])
        own_second = tl.max(tl.where(own, seconds, bests), 0)
        better = (own_best > best) | ((own_best == best) & (own_token < token))
        second = tl.maximum(tl.minimum(best, own_best), tl.maximum(second, own_second))
        best = tl.where(better, own_best, best)
        token = tl.where(better, own_token, token)
    return best, second, token, special
