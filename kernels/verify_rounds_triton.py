"""verify's filters on CUDA: where top-k and top-p cut a row, found digit by digit by programs that share it.

A cut is (key, first): a token stays if the key of its score is above `key`, or equal to it and its id is at least
`first`. It takes eight rounds, each a launch: three over the keys with every token counting 1 (top-k, ties at its edge
stay), three over the keys with their masses (top-p), two over the ids of the tokens at the edge (of equals at top-p's
edge the highest ids stay). In a round every token of the interval adds its weight to the bin of its next digit; the
next round starts with the bin in which the wanted weight is reached. Weights are whole numbers: their sums do not
depend on who adds first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels.verify_row_triton import LOWEST_KEY, joined, key_of, mass_of, read, score_of

ROUNDS = tl.constexpr(8)
BINS = tl.constexpr(2048)
BY_MASS = tl.constexpr(3)
BY_ID = tl.constexpr(6)
"""The first rounds over masses and over ids."""

ALL_OF_P = tl.constexpr(-1)
"""A wanted weight that is known once all masses are added up: top-p's share of them."""


@triton.jit
def shift_of(ROUND: tl.constexpr):
    """Bits below the digit of a round: keys have digits of 11, 11 and 10 bits, ids of 11 and 11."""
    if ROUND == 0 or ROUND == BY_MASS:
        return 21
    elif ROUND == 1 or ROUND == BY_MASS + 1:
        return 10
    elif ROUND == BY_ID:
        return 11
    else:
        return 0


@triton.jit
def digits_of(ROUND: tl.constexpr):
    """How many digits a round tells apart: what is beyond them is above its interval."""
    if ROUND == 2 or ROUND == BY_MASS + 2:
        return 1024
    else:
        return 2048


@triton.jit
def reached(weights, low, above, wanted, ROUND: tl.constexpr):
    """(low, weight above it, weight in it) of the digit of a round at which the wanted weight is reached from above."""
    digit = tl.arange(0, BINS)
    own = tl.load(weights + digit)
    from_here = tl.cumsum(own, 0, reverse=True) + above
    last = tl.maximum(tl.sum((from_here >= wanted).to(tl.int32)) - 1, 0)
    within = tl.sum(tl.where(digit == last, own, 0))
    above = tl.sum(tl.where(digit == last, from_here - own, 0))
    return low + (last.to(tl.int64) << shift_of(ROUND)), above, within


@triton.jit
def cut_of(bins, states, row, LAST: tl.constexpr):
    """(key, first) of a row after the rounds up to LAST."""
    state = states + (row * ROUNDS + LAST) * 4
    low, above, wanted, key = tl.load(state), tl.load(state + 1), tl.load(state + 2), tl.load(state + 3)
    first = tl.full((), 0, tl.int64)
    if wanted > 0:
        low, above, _ = reached(bins + (row * ROUNDS + LAST) * BINS, low, above, wanted, LAST)
        if LAST < BY_MASS:
            key = low
        else:
            first = low
    return key, first


@triton.jit
def _start(
    bins, states, row, session, temperatures, top_ks, top_ps, highest, vocabulary, with_k, ROUND: tl.constexpr
):
    """(low, weight above, wanted weight, key of the cut so far) with which a round starts; nothing wanted: no cut."""
    low = tl.full((), LOWEST_KEY, tl.int64)
    above = tl.full((), 0, tl.int64)
    wanted = tl.full((), 0, tl.int64)
    key = tl.full((), LOWEST_KEY, tl.int64)
    if ROUND == 0 or ROUND == BY_MASS:
        sampled = tl.load(temperatures + session) > 0
        if ROUND == 0:
            top_k = tl.load(top_ks + session)
            wanted = tl.where(sampled & (top_k > 0) & (top_k < vocabulary), top_k, 0).to(tl.int64)
        else:
            if with_k != 0:
                key, _ = cut_of(bins, states, row, ROUND - 1)
            wanted = tl.where(sampled & (tl.load(top_ps + session) < 1), ALL_OF_P, 0).to(tl.int64)
    else:
        BEFORE: tl.constexpr = ROUND - 1
        state = states + (row * ROUNDS + BEFORE) * 4
        low, above, wanted, key = tl.load(state), tl.load(state + 1), tl.load(state + 2), tl.load(state + 3)
        if wanted != 0:
            weights = bins + (row * ROUNDS + BEFORE) * BINS
            if wanted == ALL_OF_P:
                total = tl.sum(tl.load(weights + tl.arange(0, BINS))).to(tl.float64)
                wanted = tl.maximum(tl.ceil(tl.load(top_ps + session) * total), 1.0).to(tl.int64)
            low, above, within = reached(weights, low, above, wanted, BEFORE)
            if ROUND == BY_ID:
                # Of the equals at the edge as many stay as it takes, or all.
                key = low
                weight = tl.maximum(mass_of(score_of(key), highest), 1)
                needed = (wanted - above + weight - 1) // weight
                wanted = tl.where(needed * weight < within, needed, 0)
                low = tl.full((), 0, tl.int64)
                above = tl.full((), 0, tl.int64)
    return low, above, wanted, key


@triton.jit
def _weighed(ids, score, key, low, cut, highest, inside, ROUND: tl.constexpr, BLOCK: tl.constexpr):
    """Each token's place above `low`, its weight, and whether it may be within the interval."""
    at = key - low
    weight = tl.full((BLOCK,), 1, tl.int64)
    if ROUND >= BY_ID:
        at = ids - low
        inside = inside & (key == cut)
    elif ROUND >= BY_MASS:
        inside = inside & (key >= cut)
        weight = mass_of(score, highest)
    return at, weight, inside


@triton.jit(
    do_not_specialize=["parts", "with_k"],
    do_not_specialize_on_alignment=[
        "temperatures", "top_ks", "top_ps", "row_sessions", "part_highs", "bins", "states",
    ],
)  # fmt: skip
def verify_round(
    scores,  # float32 [R, V]
    temperatures, top_ks, top_ps,  # of data.Samplings
    row_sessions,  # int32 [R]
    part_highs,  # float32 [R, parts]
    bins,  # int64 [R, 8, 2048], zero before the first round
    states,  # int64 [R, 8, 4], out: what each round started with
    vocabulary,  # V
    parts,  # programs that share a row
    with_k,  # whether rounds over counts ran
    ROUND: tl.constexpr,
    BLOCK: tl.constexpr,  # tokens that are held at once
    BLOCKS: tl.constexpr,  # of a program
    PARTS: tl.constexpr,  # `parts` or more, a power of 2
):  # fmt: skip
    """One round of one part of a row."""
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    session = tl.load(row_sessions + row)
    highest = tl.max(joined(part_highs, row, parts, PARTS))
    low, above, wanted, cut = _start(
        bins, states, row, session, temperatures, top_ks, top_ps, highest, vocabulary, with_k, ROUND
    )
    state = states + (row * ROUNDS + ROUND) * 4
    if part == 0:
        tl.store(state, low)
        tl.store(state + 1, above)
        tl.store(state + 2, wanted)
        tl.store(state + 3, cut)
    if wanted != 0:
        source = scores + row.to(tl.int64) * vocabulary
        weights = bins + (row * ROUNDS + ROUND) * BINS
        begin = part * BLOCK * BLOCKS
        end = tl.minimum(begin + BLOCK * BLOCKS, vocabulary)
        for start in range(begin, end, BLOCK):
            ids, score = read(source, start, end, BLOCK)
            key = key_of(score)
            at, weight, inside = _weighed(ids, score, key, low, cut, highest, ids < end, ROUND, BLOCK)
            digit = at >> shift_of(ROUND)
            inside = inside & (at >= 0) & (digit < digits_of(ROUND)) & (weight > 0)
            if tl.max(inside.to(tl.int32)) > 0:
                tl.atomic_add(weights + digit, weight, inside, sem="relaxed")
