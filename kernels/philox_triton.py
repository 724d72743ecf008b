"""Philox4x32-10 and the noise made of it, on the device: the same words as philox.py, the same bits of noise.

Both logarithms are worked out in float64 by additions, products and divisions alone, in the order of
csrc/noise/gumbel.cpp; kernels that use them are compiled without fused multiply-adds (Variant.options).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox4x32_10(counter, position, key_low, key_high):
    """Ten rounds over the counter (counter, position, 0, 0); all uint32, four words back."""
    c0 = counter
    c1 = counter * 0 + position
    c2 = counter * 0
    c3 = counter * 0
    k0 = key_low
    k1 = key_high
    for _ in tl.static_range(10):
        left = c0.to(tl.uint64) * 0xD2511F53
        right = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (right >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = right.to(tl.uint32)
        c2 = (left >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = left.to(tl.uint32)
        k0 = (k0.to(tl.uint64) + 0x9E3779B9).to(tl.uint32)
        k1 = (k1.to(tl.uint64) + 0xBB67AE85).to(tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def uniform(word):
    """u = (x + 1/2) 2^-32, rounded to float32, below 1."""
    exact = (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10
    return tl.minimum(exact.to(tl.float32), 0.999999940395355)


@triton.jit
def _log(x, minus_one):
    """ln(x) of float64, x normal and positive; `minus_one` is x - 1 without rounding where x is near 1."""
    bits = x.to(tl.int64, bitcast=True) + 0x95F619980C433  # 1's bits less those of sqrt(1/2)
    k = (bits >> 52).to(tl.float64) - 1023.0
    mantissa = (bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD
    f = tl.where(k == 0.0, minus_one, mantissa.to(tl.float64, bitcast=True) - 1.0)
    s = f / (2.0 + f)
    t = s * s
    series = t / 17 + 0.06666666666666667
    series = series * t + 0.07692307692307693
    series = series * t + 0.09090909090909091
    series = series * t + 0.1111111111111111
    series = series * t + 0.14285714285714285
    series = series * t + 0.2
    series = series * t + 0.3333333333333333
    series = series * t + 1.0
    return k * 0.693147180559945309417 + 2.0 * s * series


@triton.jit
def gumbel(word):
    """g = -log(-log1p(-u)) of uint32 words, float32."""
    u = uniform(word).to(tl.float64)
    w = (-_log(1.0 - u, -u)).to(tl.float32).to(tl.float64)
    return (-_log(w, w - 1.0)).to(tl.float32)


@triton.jit
def about_gumbel(word):
    """`gumbel` in float32 alone: off by less than 1e-4."""
    # (word + 1/2) rounded to float32: where words are that large an odd number rounds as the half above does.
    near = tl.where(word < 33554432, word.to(tl.float32) + 0.5, (word | 1).to(tl.float32))
    u = tl.minimum(near * 2.3283064365386963e-10, 0.999999940395355)
    series = u * (1.0 + u * (0.5 + u * 0.3333333333333333))  # -log1p(-u) near 0, where the logarithm cancels
    return -tl.log(tl.where(u < 0.0078125, series, -tl.log(1.0 - u)))


@triton.jit
def _row_words(first_token, position, key_low, key_high, COUNT: tl.constexpr):
    counter = (first_token // 4 + tl.arange(0, COUNT // 4)).to(tl.uint32)
    c0, c1, c2, c3 = philox4x32_10(counter, position, key_low, key_high)
    words = tl.join(tl.join(c0, c2), tl.join(c1, c3))  # [COUNT / 4, 2, 2]: word 2 a + b of each counter
    return tl.reshape(words, (COUNT,))


@triton.jit
def row_gumbel(first_token, position, key_low, key_high, COUNT: tl.constexpr):
    """Noise [COUNT] of the tokens from first_token, a multiple of 4, on."""
    return gumbel(_row_words(first_token, position, key_low, key_high, COUNT))


@triton.jit
def row_gumbel_about(first_token, position, key_low, key_high, COUNT: tl.constexpr):
    """`row_gumbel` in float32 alone: off by less than 1e-4."""
    return about_gumbel(_row_words(first_token, position, key_low, key_high, COUNT))


@triton.jit
def rows_words(first_token, positions, keys_low, keys_high, ROWS: tl.constexpr, COUNT: tl.constexpr):
    """Words [ROWS, COUNT] of the tokens from first_token, a multiple of 4, on; one position and key a row."""
    counter = (first_token // 4 + tl.arange(0, COUNT // 4)).to(tl.uint32)
    counters = counter[None, :] + (positions * 0)[:, None]
    c0, c1, c2, c3 = philox4x32_10(counters, positions[:, None], keys_low[:, None], keys_high[:, None])
    return tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), (ROWS, COUNT))


@triton.jit
def words_of(tokens, positions, keys_low, keys_high):
    """The word of each token [N] at its own position and key."""
    c0, c1, c2, c3 = philox4x32_10((tokens // 4).to(tl.uint32), positions, keys_low, keys_high)
    place = tokens % 4
    return tl.where(place == 0, c0, tl.where(place == 1, c1, tl.where(place == 2, c2, c3)))
