"""verify on CUDA: programs share each row; the last of a session's to end walks its tree.

First `verify_scan` reads the logits once: log-sum-exp, the best score, and the scores, divided once, for what follows.
Where a session asks for top-k or top-p, the rounds of verify_rounds_triton.py find the cut. Then `verify_choose` takes
the best noisy score. Each launch ends before the next one reads what its programs left; which program is the last does
not change the outcome. verify_launch.py starts them. Imports Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels.philox_triton import row_gumbel, row_gumbel_about
from edgespec.kernels.verify_rounds_triton import cut_of
from edgespec.kernels.verify_row_triton import (
    LOWEST_KEY,
    NO_TOKEN,
    best_two,
    better_two,
    divide,
    joined,
    passes,
    read,
)  # fmt: skip
from edgespec.kernels.verify_walk_triton import session_of, walk

NOISE_ERROR = tl.constexpr(1e-3)
"""More than `row_gumbel_about` is ever off."""


@triton.jit(
    do_not_specialize=["sessions", "parts"],
    do_not_specialize_on_alignment=[
        "offsets", "temperatures", "penalties", "seen_offsets", "seen_ids", "bias_offsets", "bias_ids", "bias_values",
        "row_sessions", "part_tops", "part_sums", "part_highs",
    ],
)  # fmt: skip
def verify_scan(
    logits,  # [R, V]
    scores,  # float32 [R, V], out: with bias, penalty and temperature
    offsets,  # int32 [S + 1]
    temperatures, penalties,  # of data.Samplings
    seen_offsets, seen_ids,  # data.Ragged, a list a row
    bias_offsets, bias_ids, bias_values,  # data.Ragged, a list a row
    row_sessions,  # int32 [R], out
    part_tops, part_sums,  # float32 [R, parts], out: the largest logit, and the sum of exp(logit - largest)
    part_highs,  # float32 [R, parts], out: the best score
    sessions,  # S
    vocabulary,  # V
    parts,  # programs that share a row
    BLOCK: tl.constexpr,  # tokens that are held at once
    BLOCKS: tl.constexpr,  # of a program
    LISTS: tl.constexpr,  # a penalty or a bias is asked for
    LIST: tl.constexpr,  # entries of a row's lists that are read at once
):  # fmt: skip
    """One part of a row: its logits' mass, and its scores."""
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    session = session_of(row, offsets, sessions)
    temperature = tl.load(temperatures + session)
    divisor = tl.where(temperature > 0, temperature, 1.0).to(tl.float32)
    raw = logits + row.to(tl.int64) * vocabulary
    work = scores + row.to(tl.int64) * vocabulary
    begin = part * BLOCK * BLOCKS
    end = tl.minimum(begin + BLOCK * BLOCKS, vocabulary)
    if LISTS:
        _penalise(
            raw, work, bias_offsets, bias_ids, bias_values, seen_offsets, seen_ids, tl.load(penalties + session),
            row, session, begin, end, BLOCK, LIST,
        )  # fmt: skip
    top, total, highest = _scanned(raw, work, divisor, begin, end, BLOCK, LISTS)
    to = row * parts + part
    tl.store(part_tops + to, top)
    tl.store(part_sums + to, total)
    tl.store(part_highs + to, highest)
    if part == 0:
        tl.store(row_sessions + row, session)


@triton.jit
def _scanned(raw, work, divisor, begin, end, BLOCK: tl.constexpr, LISTS: tl.constexpr):
    """(largest logit, sum of exp(logit - largest), best score) of [begin .. end); the scores go to `work`."""
    top = tl.full((), -3.4028234663852886e38, tl.float32)
    total = tl.full((), 0, tl.float32)
    highest = tl.full((), float("-inf"), tl.float32)
    for start in range(begin, end, BLOCK):
        ids, z = read(raw, start, end, BLOCK)
        new_top = tl.maximum(top, tl.max(z))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(z - new_top))
        top = new_top
        if LISTS:
            z = tl.load(work + ids, ids < end, float("-inf"))
        score = divide(z, divisor, BLOCK)
        tl.store(work + ids, score, ids < end)
        highest = tl.maximum(highest, tl.max(score))
    return top, total, highest


@triton.jit
def _penalise(
    raw, work, bias_offsets, bias_ids, bias_values, seen_offsets, seen_ids, penalty, row, session, begin, end,
    BLOCK: tl.constexpr, LIST: tl.constexpr,
):  # fmt: skip
    """work [begin .. end) = the raw logits with bias and repetition penalty."""
    for start in range(begin, end, BLOCK):
        ids, z = read(raw, start, end, BLOCK)
        tl.store(work + ids, z, ids < end)
    tl.debug_barrier()
    last = tl.load(bias_offsets + row + 1)
    for start in range(tl.load(bias_offsets + row), last, LIST):
        at = start + tl.arange(0, LIST)
        ids = tl.load(bias_ids + at, at < last, -1)
        own = (ids >= begin) & (ids < end)
        tl.store(work + ids, tl.load(work + ids, own, 0.0) + tl.load(bias_values + at, own, 0.0), own)
    tl.debug_barrier()
    factor = penalty.to(tl.float32)
    if factor != 1:
        last = tl.load(seen_offsets + row + 1)
        for start in range(tl.load(seen_offsets + row), last, LIST):
            at = start + tl.arange(0, LIST)
            ids = tl.load(seen_ids + at, at < last, -1)
            own = (ids >= begin) & (ids < end)
            z = tl.load(work + ids, own, 0.0)
            tl.store(work + ids, tl.where(z < 0, z * factor, divide(z, factor, LIST)), own)
        tl.debug_barrier()


@triton.jit(
    do_not_specialize=["width", "parts", "with_k", "with_p"],
    do_not_specialize_on_alignment=[
        "offsets", "parents", "tree_tokens", "positions", "temperatures", "min_ps", "seeds", "row_sessions",
        "part_tops", "part_sums", "part_highs", "bins", "states", "part_bests", "part_seconds", "part_tokens",
        "rows_ended", "sessions_ended", "lengths", "paths", "choices", "logprobs", "margins",
    ],
)  # fmt: skip
def verify_choose(
    logits,  # [R, V]
    scores,  # float32 [R, V]
    offsets, parents, tree_tokens,  # data.Trees
    positions,  # int32 [R]
    temperatures, min_ps, seeds,  # of data.Samplings
    row_sessions, part_tops, part_sums, part_highs,  # of verify_scan
    bins, states,  # of verify_round
    part_bests, part_seconds, part_tokens,  # float32, float32, int32 [R, parts], scratch
    rows_ended, sessions_ended,  # int32 [R], [S], zero
    lengths, paths, choices, logprobs, margins,  # data.Verdicts, out
    vocabulary,  # V
    width,  # rows of the largest session
    parts,  # programs that share a row
    with_k, with_p,  # whether rounds over counts, and over masses, ran
    ROWS: tl.constexpr,  # of a tree that are held at once
    BLOCK: tl.constexpr,  # tokens that are held at once
    BLOCKS: tl.constexpr,  # of a program
    PARTS: tl.constexpr,  # `parts` or more, a power of 2
):  # fmt: skip
    """The best of a part of a row. The last of a row's programs decides it, the last of a session's walks its tree."""
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    session = tl.load(row_sessions + row)
    cut, first = _cut(bins, states, row, with_k, with_p)
    highest = tl.max(joined(part_highs, row, parts, PARTS))
    sampled = tl.load(temperatures + session) > 0
    least = _least_score(highest, tl.load(min_ps + session), sampled)
    best, second, token = _best_of_part(
        scores + row.to(tl.int64) * vocabulary, part * BLOCK * BLOCKS, vocabulary, cut, first, least, sampled,
        tl.load(positions + row).to(tl.uint32), tl.load(seeds + session), BLOCK, BLOCKS,
    )  # fmt: skip
    tl.store(part_bests + row * parts + part, best)
    tl.store(part_seconds + row * parts + part, second)
    tl.store(part_tokens + row * parts + part, token)
    tl.debug_barrier()
    if tl.atomic_add(rows_ended + row, 1) == parts - 1:
        _decide(
            logits + row.to(tl.int64) * vocabulary, part_tops, part_sums, part_bests, part_seconds, part_tokens,
            choices, logprobs, margins, row, parts, PARTS,
        )  # fmt: skip
        tl.debug_barrier()
        begin = tl.load(offsets + session)
        size = tl.load(offsets + session + 1) - begin
        if tl.atomic_add(sessions_ended + session, 1) == size - 1:
            walk(choices, parents, tree_tokens, begin, size, session, lengths, paths, width, ROWS)


@triton.jit
def _cut(bins, states, row, with_k, with_p):
    """(key, first) of a row behind all rounds that ran."""
    cut = tl.full((), LOWEST_KEY, tl.int64)
    first = tl.full((), 0, tl.int64)
    if with_p != 0:
        cut, first = cut_of(bins, states, row, 7)
    elif with_k != 0:
        cut, first = cut_of(bins, states, row, 2)
    return cut, first


@triton.jit
def _least_score(highest, min_p, sampled):
    """The least float32 score that min-p lets stay."""
    least = tl.full((), float("-inf"), tl.float32)
    if sampled & (min_p > 0):
        exact = highest.to(tl.float64) + tl.log(min_p)
        least = exact.to(tl.float32)
        if least.to(tl.float64) < exact:
            bits = least.to(tl.int32, bitcast=True)  # the next larger float32
            following = tl.where(bits < 0, bits - 1, bits + 1)
            least = tl.where(least == 0, 1.401298464324817e-45, following.to(tl.float32, bitcast=True))
    return least


@triton.jit
def _best_of_part(
    source,
    begin,
    vocabulary,
    cut,
    first,
    least,
    sampled,
    position,
    seed,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """(best, second-best, token) of the noisy scores of one part that pass the filters; of equals the lowest id.

    Noise is worked out in float64 only in blocks where a token can be among the best two: first all get noise that is
    off by less than NOISE_ERROR.
    """
    key_low, key_high = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    end = tl.minimum(begin + BLOCK * BLOCKS, vocabulary)
    best = tl.full((), float("-inf"), tl.float32)
    second = tl.full((), float("-inf"), tl.float32)
    token = tl.full((), NO_TOKEN, tl.int32)
    block = tl.arange(0, BLOCKS)
    bests = tl.full((BLOCKS,), float("-inf"), tl.float32)
    for start in range(begin, end, BLOCK):
        ids, score = read(source, start, end, BLOCK)
        stays = passes(ids, score, cut, first, least)
        if tl.max(stays.to(tl.int32)) > 0:
            score = tl.where(stays, score, float("-inf"))
            if sampled:
                score = score + row_gumbel_about(start, position, key_low, key_high, BLOCK)
            own_best, own_second, own_token = best_two(score, ids)
            best, second, token = better_two(best, second, token, own_best, own_second, own_token)
            bests = tl.where(block == (start - begin) // BLOCK, own_best, bests)
    if sampled:
        least_about = second - 2 * (NOISE_ERROR + tl.abs(second) * 2.3841858e-07)
        best = tl.full((), float("-inf"), tl.float32)
        second = tl.full((), float("-inf"), tl.float32)
        token = tl.full((), NO_TOKEN, tl.int32)
        for start in range(begin, end, BLOCK):
            own = tl.max(tl.where(block == (start - begin) // BLOCK, bests, float("-inf")))
            if (own >= least_about) & (own > float("-inf")):
                ids, score = read(source, start, end, BLOCK)
                score = tl.where(passes(ids, score, cut, first, least), score, float("-inf"))
                score = score + row_gumbel(start, position, key_low, key_high, BLOCK)
                own_best, own_second, own_token = best_two(score, ids)
                best, second, token = better_two(best, second, token, own_best, own_second, own_token)
    return best, second, token


@triton.jit
def _decide(
    raw, part_tops, part_sums, part_bests, part_seconds, part_tokens, choices, logprobs, margins, row, parts,
    PARTS: tl.constexpr,
):  # fmt: skip
    """A row's choice, log-probability and margin from what its programs found, joined in the order of their ids."""
    part = tl.arange(0, PARTS)
    at, real = row * parts + part, part < parts
    tops = tl.load(part_tops + at, real, -3.4028234663852886e38)
    top = tl.max(tops)
    total = tl.sum(tl.load(part_sums + at, real, 0.0).to(tl.float64) * tl.exp(tops - top).to(tl.float64))
    logsumexp = top.to(tl.float64) + tl.log(total)
    bests = tl.load(part_bests + at, real, float("-inf"), cache_modifier=".cg")
    seconds = tl.load(part_seconds + at, real, float("-inf"), cache_modifier=".cg")
    tokens = tl.load(part_tokens + at, real, NO_TOKEN, cache_modifier=".cg")
    best = tl.max(bests)
    token = tl.min(tl.where(bests == best, tokens, NO_TOKEN))
    second = tl.max(tl.where(tokens == token, seconds, bests))
    sound = (tl.abs(logsumexp) < float("inf")) & (token != NO_TOKEN)
    logit = tl.load(raw + tl.where(sound, token, 0)).to(tl.float64)
    tl.store(choices + row, tl.where(sound, token, -1))
    tl.store(margins + row, tl.where(sound, best - second, float("nan")))
    tl.store(logprobs + row, tl.where(sound, (logit - logsumexp).to(tl.float32), float("nan")))
