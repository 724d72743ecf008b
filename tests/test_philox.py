"""The sampling noise: Philox against its published vectors, Gumbel values golden and beside plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespec import _native
from edgespec.kernels import philox

WORD = 0xFFFFFFFF

# kat_vectors of Random123 (Salmon et al., SC 2011): counter, key, output.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# The bits of tokens 0..7 at position 0 under seed 0, and of 31998..32002 at 1000 under 0x0123456789ABCDEF.
GOLDEN_ORIGIN = [
    0x3F2CC257, 0xBF40EB1B, 0xBE9249CA, 0x3D946D1A, 0xBFA3658A, 0x3F4CAB23, 0xBE2CE771, 0x4051A119,
]  # fmt: skip
GOLDEN_FAR = [0x402D1707, 0xBCCC2B79, 0xBDB504B3, 0x3FF29025, 0x3D108B4B]


def noise(seed: int, position: int, count: int, first_token: int = 0) -> NDArray[np.float32]:
    out = np.empty((1, count), dtype=np.float32)
    _native.fill_gumbel(seed, np.array([position], dtype=np.int32), out, first_token)
    return out[0]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_vectors(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, int, int, int]
) -> None:
    assert tuple(_native.philox4x32_10(counter, key)) == words
    (reference,) = philox.philox4x32_10(np.array([counter], np.uint64), key).tolist()
    assert tuple(reference) == words


def test_gumbel_noise_has_its_golden_values() -> None:
    assert noise(0, 0, 8).view(np.uint32).tolist() == GOLDEN_ORIGIN
    assert noise(0x0123456789ABCDEF, 1000, 5, first_token=31998).view(np.uint32).tolist() == GOLDEN_FAR


@pytest.mark.parametrize(
    ("seed", "position"), [(0, 0), (1, 1), (2**64 - 1, 2**31 - 1), (0xDEADBEEF << 32, 777)]
)
def test_gumbel_noise_is_that_of_the_reference(seed: int, position: int) -> None:
    got, want = noise(seed, position, 50_000), philox.gumbel(seed, position, np.arange(50_000))
    # Both round float64 values that differ by some 1e-15: a value that lies on the edge may fall either way.
    differing = np.flatnonzero(got != want)
    assert len(differing) <= 1
    assert np.all(np.abs(got[differing] - want[differing]) <= np.spacing(np.abs(want[differing])))


@given(
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 2**31 - 1),
    first=st.integers(0, 300),
    count=st.integers(0, 300),
)
def test_a_token_has_its_noise_wherever_the_row_begins(
    seed: int, position: int, first: int, count: int
) -> None:
    assert (
        noise(seed, position, count, first).tolist() == noise(seed, position, first + count)[first:].tolist()
    )


def test_rows_are_positions() -> None:
    out = np.empty((3, 100), dtype=np.float32)
    _native.fill_gumbel(5, np.array([9, 2, 9], dtype=np.int32), out)
    assert out[0].tolist() == out[2].tolist() == noise(5, 9, 100).tolist()
    assert out[1].tolist() == noise(5, 2, 100).tolist()


def test_noise_is_finite_and_gumbel_distributed() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.concatenate([noise(seed, 3, 100_000) for seed in range(4)])
    assert np.all(np.isfinite(values))
    assert stats.kstest(values, "gumbel_r").pvalue > 1e-4


def test_shapes_and_types_are_checked() -> None:
    positions = np.zeros(2, dtype=np.int32)
    with pytest.raises(ValueError, match=r"\[P, V\]"):
        _native.fill_gumbel(0, positions, np.empty((3, 8), dtype=np.float32))
    with pytest.raises(TypeError):
        _native.fill_gumbel(0, positions, np.empty((2, 8), dtype=np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="32 bits"):
        _native.fill_gumbel(0, positions, np.empty((2, 8), dtype=np.float32), first_token=2**32 - 4)
