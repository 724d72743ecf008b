"""Philox4x32-10 and the noise made of it, in numpy: the reference of every backend of the kernels.

A word is a function of (seed, position, index): key = seed, counter = (index // 4, position, 0, 0), word index % 4.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

WORD = 0xFFFFFFFF
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32_10(counters: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Ten rounds over counters uint64 [N, 4], each word below 2^32; the words [N, 4]."""
    c0, c1, c2, c3 = counters.T
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (right >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            right & np.uint64(WORD),
            (left >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            left & np.uint64(WORD),
        )
        k0, k1 = (k0 + _WEYL[0]) & WORD, (k1 + _WEYL[1]) & WORD
    return np.stack([c0, c1, c2, c3], axis=1)


def words(seed: int, position: int, indices: ArrayLike) -> NDArray[np.uint32]:
    """The 32-bit word of each index [N]."""
    at = np.asarray(indices, dtype=np.uint64)
    counters = np.zeros((len(at), 4), dtype=np.uint64)
    counters[:, 0] = at // np.uint64(4)
    counters[:, 1] = position & WORD
    four = philox4x32_10(counters, (seed & WORD, seed >> 32 & WORD))
    chosen: NDArray[np.uint32] = four[np.arange(len(at)), at % np.uint64(4)].astype(np.uint32)
    return chosen


def uniform(word: NDArray[np.uint32]) -> NDArray[np.float32]:
    """u = (x + 1/2) 2^-32 in float32, above 0 and below 1."""
    rounded = ((word.astype(np.float64) + 0.5) * 2.0**-32).astype(np.float32)
    below_one: NDArray[np.float32] = np.minimum(rounded, np.float32(1 - 2.0**-24))
    return below_one


def gumbel(seed: int, position: int, indices: ArrayLike) -> NDArray[np.float32]:
    """g = -log(-log1p(-u)) of each token id [N]; both logarithms are rounded to float32 once."""
    u = uniform(words(seed, position, indices)).astype(np.float64)
    w = (-np.log1p(-u)).astype(np.float32).astype(np.float64)
    noise: NDArray[np.float32] = (-np.log(w)).astype(np.float32)
    return noise
