"""Native results that decide tokens, the same on every processor, compiler and SIMD tier. Needs numpy alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from edgespec import _native

ROWS, WIDTH, VOCABULARY = 3, 48, 700
NOISE_SHA256 = "029ae46670d849a7ab2c10a70d5a8671b1fd75bad91ccf45df08c72732da03fc"


def fractions(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Numbers in [-0.5, 0.5) from integer arithmetic alone, each exact in bfloat16 and float16."""
    numbers = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed * 40503)
    return ((numbers >> np.uint64(7)) % np.uint64(64)).reshape(shape).astype(np.float32) / 64 - 0.5


def stored(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    if dtype == "bfloat16":  # as its bits
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16) if dtype == "float16" else values


def test_noise_has_the_same_bits_on_every_machine() -> None:
    noise = np.empty((4, 32_000), dtype=np.float32)
    _native.fill_gumbel(0x0123456789ABCDEF, np.array([0, 1, 1000, 2**31 - 1], dtype=np.int32), noise)
    assert hashlib.sha256(noise.tobytes()).hexdigest() == NOISE_SHA256


@pytest.mark.parametrize("tier", _native.simd_tiers())
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_exit_chooses_what_float64_chooses(dtype: str, tier: str) -> None:
    hidden, norm = fractions((ROWS, WIDTH), 1), fractions((WIDTH,), 2) + 1
    head = fractions((VOCABULARY, WIDTH), 3)
    temperatures = np.array([0.0, 0.8, 1.0], dtype=np.float32)
    seeds, positions = np.array([1, 2, 3], dtype=np.uint64), np.array([4, 5, 6], dtype=np.int32)
    noise = np.zeros((ROWS, VOCABULARY), dtype=np.float32)
    for row in (1, 2):
        _native.fill_gumbel(int(seeds[row]), positions[row : row + 1], noise[row : row + 1])
    chosen, _ = _native.exit_head(
        stored(hidden, dtype),
        stored(norm, dtype),
        stored(head, dtype),
        dtype,
        temperatures,
        seeds,
        positions,
        1e-6,
        1.0,
        0.0,
        1,
        tier,
    )
    rows = hidden.astype(np.float64)
    rows /= np.sqrt(np.square(rows).mean(-1, keepdims=True) + 1e-6)
    scores = (rows * norm) @ head.T.astype(np.float64)
    scores = scores / np.where(temperatures, temperatures, 1)[:, None] + noise
    best = np.sort(scores, axis=-1)
    assert (best[:, -1] - best[:, -2] > 0.005).all(), "the case must not be near a tie"
    assert chosen.tolist() == scores.argmax(-1).tolist()
