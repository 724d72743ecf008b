"""verify on CUDA: one kernel, a program a row; the last of a session's programs to end walks its tree.

A row's program scans its logits for log-sum-exp, finds the cut of top-k and top-p by bisection on the scores' bits (as
integers in the order of the floats), and takes the best noisy score. Which program walks does not change the outcome.
verify_launch.py starts it. Imports Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels.philox_triton import row_gumbel
from edgespec.kernels.verify_filters_triton import divide, filter_cut, mass_of, passes, read


@triton.jit
def decide_row(
    logits, scores, positions, temperatures, top_ks, top_ps, min_ps, penalties, seeds,
    seen_offsets, seen_ids, bias_offsets, bias_ids, bias_values, row, session, vocabulary,
    BLOCK: tl.constexpr, LIST: tl.constexpr, LISTS: tl.constexpr, SCORE: tl.constexpr,
):  # fmt: skip
    """(token, margin, log-probability) decided after one row; token -1 where its logits are not sound."""
    raw = logits + row.to(tl.int64) * vocabulary
    work = scores + row.to(tl.int64) * vocabulary
    top, total = mass_of(raw, vocabulary, BLOCK, SCORE)
    logsumexp = top.to(tl.float64) + tl.log(total.to(tl.float64))
    nan = float("nan")
    token = -1
    margin = nan
    logprob = nan
    if tl.abs(logsumexp) < float("inf"):
        temperature = tl.load(temperatures + session)
        sampled = temperature > 0
        divisor = tl.where(sampled, temperature, 1.0).to(SCORE)
        if LISTS:
            _penalise(
                raw, work, bias_offsets, bias_ids, bias_values, seen_offsets, seen_ids, penalties,
                row, session, divisor, vocabulary, BLOCK, LIST, SCORE,
            )  # fmt: skip
            source = work
            divisor = tl.full((), 1, SCORE)
        else:
            source = raw
        highest = tl.full((), float("-inf"), SCORE)
        for start in range(0, vocabulary, BLOCK):
            highest = tl.maximum(highest, tl.max(read(source, start, divisor, vocabulary, BLOCK, SCORE)[1]))
        top_k = tl.load(top_ks + session)
        top_p = tl.load(top_ps + session)
        cut, first = filter_cut(source, divisor, vocabulary, highest, top_k, top_p, sampled, BLOCK, SCORE)
        log_min_p = tl.full((), float("-inf"), tl.float64)
        min_p = tl.load(min_ps + session)
        if sampled & (min_p > 0):
            log_min_p = tl.log(min_p)
        token, best, second = _best_two(
            source, divisor, cut, first, highest, log_min_p, sampled, tl.load(positions + row).to(tl.uint32),
            tl.load(seeds + session), vocabulary, BLOCK, SCORE,
        )  # fmt: skip
        margin = (best - second).to(tl.float32)
        logprob = (tl.load(raw + token).to(tl.float64) - logsumexp).to(tl.float32)
    return token, margin, logprob


@triton.jit
def _best_two(
    source, divisor, cut, first, highest, log_min_p, sampled, position, seed, vocabulary,
    BLOCK: tl.constexpr, SCORE: tl.constexpr,
):  # fmt: skip
    """(token, its noisy score, the second-best) of the tokens that pass the filters; of equals the lowest id."""
    key_low, key_high = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    token = -1
    best = tl.full((), float("-inf"), SCORE)
    second = tl.full((), float("-inf"), SCORE)
    for start in range(0, vocabulary, BLOCK):
        ids, s = read(source, start, divisor, vocabulary, BLOCK, SCORE)
        s = tl.where(passes(ids, s, cut, first, highest, log_min_p, SCORE), s, float("-inf"))
        if sampled:
            s = s + row_gumbel(start, position, key_low, key_high, BLOCK).to(SCORE)
        own_best = tl.max(s)
        own_token = tl.min(tl.where((s == own_best) & (s > float("-inf")), ids, 2147483647))
        own_second = tl.max(tl.where(ids == own_token, float("-inf"), s))
        second = tl.maximum(tl.minimum(best, own_best), tl.maximum(second, own_second))
        token = tl.where((own_best > best) & (own_token < vocabulary), own_token, token)
        best = tl.maximum(best, own_best)
    return token, best, second


@triton.jit
def _penalise(
    raw, work, bias_offsets, bias_ids, bias_values, seen_offsets, seen_ids, penalties, row, session, divisor,
    vocabulary, BLOCK: tl.constexpr, LIST: tl.constexpr, SCORE: tl.constexpr,
):  # fmt: skip
    """work [V] = the raw logits with bias, repetition penalty and temperature."""
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        tl.store(work + ids, tl.load(raw + ids, ids < vocabulary, 0.0).to(SCORE), ids < vocabulary)
    tl.debug_barrier()
    end = tl.load(bias_offsets + session + 1)
    for start in range(tl.load(bias_offsets + session), end, LIST):
        at = start + tl.arange(0, LIST)
        ids = tl.load(bias_ids + at, at < end, 0)
        value = tl.load(work + ids, at < end, 0.0) + tl.load(bias_values + at, at < end, 0.0).to(SCORE)
        tl.store(work + ids, value, at < end)
    tl.debug_barrier()
    penalty = tl.load(penalties + session).to(SCORE)
    if penalty != 1:
        end = tl.load(seen_offsets + row + 1)
        for start in range(tl.load(seen_offsets + row), end, LIST):
            at = start + tl.arange(0, LIST)
            ids = tl.load(seen_ids + at, at < end, 0)
            value = tl.load(work + ids, at < end, 0.0)
            value = tl.where(value < 0, value * penalty, divide(value, penalty, LIST, SCORE))
            tl.store(work + ids, value, at < end)
        tl.debug_barrier()
    for start in range(0, vocabulary, BLOCK):
        ids, z = read(work, start, divisor, vocabulary, BLOCK, SCORE)
        tl.store(work + ids, z, ids < vocabulary)
    tl.debug_barrier()


@triton.jit
def _session_of(row, offsets, sessions):
    """The session that owns a row, by bisection of offsets [S + 1]."""
    session = 0
    end = sessions
    for _ in range(0, 31):
        middle = (session + end) // 2
        if middle > session:
            if tl.load(offsets + middle) <= row:
                session = middle
            else:
                end = middle
    return session


@triton.jit
def _walk(
    row_tokens, row_margins, row_logprobs, parents, tree_tokens, first, size, session,
    lengths, paths, next_tokens, logprobs, margins, width, ROWS: tl.constexpr,
):  # fmt: skip
    """Follow the decided tokens down a session's tree, whose rows other programs have decided: its verdict."""
    node = tl.arange(0, ROWS)
    real = node < size
    parent = tl.load(parents + first + node, real, -2)
    drafted = tl.load(tree_tokens + first + node, real, -2)
    tokens = tl.load(row_tokens + first + node, real, -1, cache_modifier=".cg")
    own_margins = tl.load(row_margins + first + node, real, 0.0, cache_modifier=".cg")
    own_logprobs = tl.load(row_logprobs + first + node, real, 0.0, cache_modifier=".cg")
    at = 0
    length = 0
    walking = True
    next_token = -1
    for _ in range(0, ROWS):
        if walking:
            next_token = tl.sum(tl.where(node == at, tokens, 0))
            to = session * width + length
            tl.store(margins + to, tl.sum(tl.where(node == at, own_margins, 0.0)))
            tl.store(logprobs + to, tl.sum(tl.where(node == at, own_logprobs, 0.0)))
            is_child = (parent == at) & (drafted == next_token) & (next_token >= 0)
            child = tl.min(tl.where(is_child, node, ROWS))
            walking = (child < ROWS) & (length + 1 < width)
            if walking:
                tl.store(paths + session * tl.maximum(width - 1, 1) + length, child)
                length += 1
                at = child
    tl.store(lengths + session, length)
    tl.store(next_tokens + session, next_token)


@triton.jit
def verify_rows(
    logits,  # [R, V]
    scores,  # float32 (float64 for float64 logits) [R, V], scratch; used with LISTS only
    offsets, parents, tree_tokens,  # data.Trees
    positions,  # int32 [R]
    temperatures, top_ks, top_ps, min_ps, penalties, seeds,  # data.Samplings
    seen_offsets, seen_ids,  # data.Ragged, a list a row
    bias_offsets, bias_ids, bias_values,  # data.Ragged, a list a session
    row_tokens, row_margins, row_logprobs,  # int32, float32, float32 [R], out
    ended,  # int32 [S], zero between launches
    lengths, paths, next_tokens, logprobs, margins,  # data.Verdicts, out
    sessions,  # S
    vocabulary,  # V
    width,  # rows of the largest session
    ROWS: tl.constexpr,  # `width` or more, a power of 2
    BLOCK: tl.constexpr,  # tokens that are held at once
    LISTS: tl.constexpr,  # a penalty or a bias is asked for
    LIST: tl.constexpr,  # entries of a row's lists that are read at once
):  # fmt: skip
    """Decides one row; the last of its session's programs walks the tree."""
    SCORE: tl.constexpr = scores.dtype.element_ty
    row = tl.program_id(0)
    session = _session_of(row, offsets, sessions)
    first = tl.load(offsets + session)
    size = tl.load(offsets + session + 1) - first
    token, margin, logprob = decide_row(
        logits, scores, positions, temperatures, top_ks, top_ps, min_ps, penalties, seeds,
        seen_offsets, seen_ids, bias_offsets, bias_ids, bias_values, row, session, vocabulary,
        BLOCK, LIST, LISTS, SCORE,
    )  # fmt: skip
    tl.store(row_tokens + row, token)
    tl.store(row_margins + row, margin)
    tl.store(row_logprobs + row, logprob)
    tl.debug_barrier()
    if tl.atomic_add(ended + session, 1) == size - 1:
        tl.store(ended + session, 0)
        _walk(
            row_tokens, row_margins, row_logprobs, parents, tree_tokens, first, size, session,
            lengths, paths, next_tokens, logprobs, margins, width, ROWS,
        )  # fmt: skip
