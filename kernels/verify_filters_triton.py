"""Device functions of verify_triton.py: reading a row, its masses, and the cut that top-k and top-p make.

A cut is (key, first): a token stays if the key of its score is above `key`, or equal to it and its id is at least
`first`. Keys are the scores' bits, turned so that integers have the order of the floats.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def divide(values, divisor, BLOCK: tl.constexpr, SCORE: tl.constexpr):
    """values [BLOCK] / divisor, rounded to nearest as on the CPU."""
    if SCORE == tl.float32:
        return tl.div_rn(values, tl.broadcast_to(divisor, (BLOCK,)))
    else:
        return values / divisor


@triton.jit
def read(source, start, divisor, vocabulary, BLOCK: tl.constexpr, SCORE: tl.constexpr):
    """(ids, scores) [BLOCK] from `start` on: what is at `source`, divided; -inf beyond the vocabulary."""
    ids = start + tl.arange(0, BLOCK)
    raw = tl.load(source + ids, ids < vocabulary, float("-inf")).to(SCORE)
    return ids, divide(raw, divisor, BLOCK, SCORE)


@triton.jit
def key_of(score, SCORE: tl.constexpr):
    """int64 keys in the order of the scores; 0 and -0 have the same."""
    plain = tl.where(score == 0, 0.0, score).to(SCORE)
    if SCORE == tl.float32:
        bits = plain.to(tl.int32, bitcast=True).to(tl.int64)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    else:
        bits = plain.to(tl.int64, bitcast=True)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)


@triton.jit
def score_of(key, SCORE: tl.constexpr):
    """The score of a key."""
    if SCORE == tl.float32:
        bits = tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.int32)
        return bits.to(tl.float32, bitcast=True)
    else:
        bits = tl.where(key < 0, key ^ 0x7FFFFFFFFFFFFFFF, key)
        return bits.to(tl.float64, bitcast=True)


@triton.jit
def mass_of(raw, vocabulary, BLOCK: tl.constexpr, SCORE: tl.constexpr):
    """(top, sum of exp(z - top)) of raw logits; NaN and +inf leave a sum or a top that is not finite."""
    top = tl.full((), -3.4028234663852886e38, SCORE)
    total = tl.full((), 0, SCORE)
    one = tl.full((), 1, SCORE)
    for start in range(0, vocabulary, BLOCK):
        _, z = read(raw, start, one, vocabulary, BLOCK, SCORE)
        new_top = tl.maximum(top, tl.max(z))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(z - new_top))
        top = new_top
    return top, total


@triton.jit
def passes(ids, score, cut, first, highest, log_min_p, SCORE: tl.constexpr):
    """Which tokens stay: those above the cut, and no less likely than min-p says."""
    key = key_of(score, SCORE)
    above = (key > cut) | ((key == cut) & (ids >= first))
    return above & (score.to(tl.float64) - highest.to(tl.float64) >= log_min_p)


@triton.jit
def _count(source, divisor, vocabulary, low, high, first, BLOCK: tl.constexpr, SCORE: tl.constexpr):
    """How many tokens have a key from `low` to `high` and an id of at least `first`."""
    number = tl.full((), 0, tl.int32)
    for start in range(0, vocabulary, BLOCK):
        ids, s = read(source, start, divisor, vocabulary, BLOCK, SCORE)
        key = key_of(s, SCORE)
        counted = (key >= low) & (key <= high) & (ids >= first) & (ids < vocabulary)
        number += tl.sum(counted.to(tl.int32))
    return number


@triton.jit
def _mass_from(source, divisor, vocabulary, key, highest, BLOCK: tl.constexpr, SCORE: tl.constexpr):
    """The sum of exp(s - highest), in float64, of the tokens of at least this key."""
    total = tl.full((), 0, tl.float64)
    for start in range(0, vocabulary, BLOCK):
        _, s = read(source, start, divisor, vocabulary, BLOCK, SCORE)
        total += tl.sum(tl.where(key_of(s, SCORE) >= key, tl.exp(s - highest), 0.0).to(tl.float64))
    return total


@triton.jit
def filter_cut(
    source, divisor, vocabulary, highest, top_k, top_p, sampled, BLOCK: tl.constexpr, SCORE: tl.constexpr
):
    """The cut of top-k (ties at its edge stay), then top-p (of equals at its edge the highest ids stay)."""
    BITS: tl.constexpr = 33 if SCORE == tl.float32 else 64
    lowest = tl.full((), -(2**31), tl.int64) if SCORE == tl.float32 else tl.full((), -(2**63), tl.int64)
    cut = lowest
    first = tl.full((), 0, tl.int32)
    beyond = key_of(highest, SCORE) + 1
    if sampled & (top_k > 0) & (top_k < vocabulary):
        high = beyond
        for _ in range(0, BITS):
            middle = (cut & high) + ((cut ^ high) >> 1)
            if middle > cut:
                if _count(source, divisor, vocabulary, middle, beyond, first, BLOCK, SCORE) >= top_k:
                    cut = middle
                else:
                    high = middle
    if sampled & (top_p < 1):
        wanted = top_p * _mass_from(source, divisor, vocabulary, cut, highest, BLOCK, SCORE)
        high = beyond
        above = tl.full((), 0, tl.float64)
        for _ in range(0, BITS):
            middle = (cut & high) + ((cut ^ high) >> 1)
            if middle > cut:
                mass = _mass_from(source, divisor, vocabulary, middle, highest, BLOCK, SCORE)
                if mass >= wanted:
                    cut = middle
                else:
                    high = middle
                    above = mass
        # Of the tokens at the cut, only those needed stay, from the highest id down.
        weight = tl.exp(score_of(cut, SCORE) - highest).to(tl.float64)
        tied = _count(source, divisor, vocabulary, cut, cut, first, BLOCK, SCORE)
        if (tied > 1) & (weight > 0):
            needed = tl.maximum(tl.ceil((wanted - above) / weight), 1.0).to(tl.int32)
            end = vocabulary
            for _ in range(0, 32):
                middle_id = (first + end) // 2
                if middle_id > first:
                    if _count(source, divisor, vocabulary, cut, cut, middle_id, BLOCK, SCORE) >= needed:
                        first = middle_id
                    else:
                        end = middle_id
    return cut, first
