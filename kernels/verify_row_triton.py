"""Device functions of verify's kernels: reading scores, their keys, and the best two of them.

Keys are the scores' bits, turned so that integers have the order of the floats. A mass is a probability as a whole
number of 2^-40 of the best token's: whole numbers are added in any order with one result.
"""

from __future__ import annotations

import triton
import triton.language as tl

NO_TOKEN = tl.constexpr(2147483647)
LOWEST_KEY = tl.constexpr(-2147483648)
MASS_OF_BEST = tl.constexpr(1099511627776.0)


@triton.jit
def divide(values, divisor, BLOCK: tl.constexpr):
    """values [BLOCK] / divisor, rounded to nearest as on the CPU."""
    return tl.div_rn(values, tl.broadcast_to(divisor, (BLOCK,)))


@triton.jit
def read(source, start, end, BLOCK: tl.constexpr):
    """(ids, values) [BLOCK] from token `start` on; -inf from `end` on."""
    ids = start + tl.arange(0, BLOCK)
    return ids, tl.load(source + ids, ids < end, float("-inf")).to(tl.float32)


@triton.jit
def key_of(score):
    """int64 keys in the order of the scores; 0 and -0 have the same."""
    plain = tl.where(score == 0, 0.0, score)
    bits = plain.to(tl.int32, bitcast=True).to(tl.int64)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def score_of(key):
    """The score of a key."""
    bits = tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.int32)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def mass_of(score, highest):
    """exp(score - highest) as a whole number, int64."""
    return (tl.exp(score - highest) * MASS_OF_BEST).to(tl.int64)


@triton.jit
def joined(values, row, parts, PARTS: tl.constexpr):
    """The values [PARTS] that a row's programs left; -inf where there are none."""
    part = tl.arange(0, PARTS)
    return tl.load(values + row * parts + part, part < parts, float("-inf"))


@triton.jit
def passes(ids, score, cut, first, least):
    """Which tokens stay: above the cut or, on it, of an id of at least `first`; and of at least the score `least`."""
    key = key_of(score)
    return ((key > cut) | ((key == cut) & (ids >= first))) & (score >= least) & (score > float("-inf"))


@triton.jit
def best_two(values, ids):
    """(best, second-best, the best's id) of values; of equals the lowest id. -inf and NO_TOKEN where all are -inf."""
    best = tl.max(values)
    token = tl.min(tl.where((values == best) & (values > float("-inf")), ids, NO_TOKEN))
    second = tl.max(tl.where(ids == token, float("-inf"), values))
    return best, second, token


@triton.jit
def better_two(best, second, token, other_best, other_second, other_token):
    """The best two of two pairs, the first of which has the lower ids."""
    second = tl.maximum(tl.minimum(best, other_best), tl.maximum(second, other_second))
    token = tl.where(other_best > best, other_token, token)
    return tl.maximum(best, other_best), second, token
