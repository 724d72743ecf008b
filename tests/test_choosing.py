"""What the CPU's kernels pass over without working out its noise: never one of the best two, to the last bit."""

from typing import Any

import numpy as np
import pytest
from kernel_backends import TIERS, same_samplings
from numpy.typing import NDArray

from edgespec import _native
from edgespec.kernels import philox
from edgespec.kernels.data import Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.verify import verify

SEED = 7
SIZES = [1, 2, 5, 63, 64, 65, 127, 129, 1000, 1024, 1025, 4003]


def hard_logits(size: int) -> dict[str, NDArray[np.float32]]:
    """Rows [size] on which a bound that is too tight, or a block that is left out, would show."""
    random = np.random.default_rng(size)
    rising = np.linspace(-20, 20, size)
    normal = random.standard_normal(size)
    two_left = np.full(size, -np.inf)
    two_left[[size // 3, -1]] = -3.0
    rows = {
        "flat": np.zeros(size),
        "flat and far": np.full(size, -1e6),
        "rising": rising,
        "falling": rising[::-1],
        "a spike at the end": np.where(np.arange(size) == size - 1, 30.0, 0),
        "a spike in the middle": np.where(np.arange(size) == size // 2, 15.0, 0),
        "two tokens left": two_left,
        "most masked": np.where(np.arange(size) % 3 == 0, normal, -np.inf),
        "narrow": 0.01 * normal,
        "like a model's": 3 * normal,
        "steep": 30 * normal,
        "huge": 1e30 * normal,
        "tiny": 1e-30 * normal,
        "equals": np.round(normal),
    }
    return {name: np.ascontiguousarray(row, np.float32) for name, row in rows.items()}


def best_two(z: NDArray[Any], temperature: float, position: int) -> tuple[int, np.float32]:
    """Token and margin with every token's noise worked out."""
    with np.errstate(over="ignore", invalid="ignore"):
        scores = z / z.dtype.type(temperature) + philox.gumbel(SEED, position, np.arange(len(z)))
        token = int(scores.argmax())
        rest = np.delete(scores, token)
        return token, np.float32(scores[token] - rest.max() if len(rest) else np.inf)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-7, 1e-3, 0.8, 1.0, 50.0, 1e7])
def test_verify_finds_the_best_two_of_all(
    temperature: float, dtype: type, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _native.verify
    monkeypatch.setattr(_native, "verify", lambda *values, **named: backend(*values, tier, **named))
    for size in SIZES:
        rows = hard_logits(size)
        count = len(rows)
        sampling = same_samplings(count, temperature=temperature, seed=SEED)
        positions = np.arange(count, dtype=np.int32)
        got = verify(
            np.stack(list(rows.values())).astype(dtype),
            Trees.single_rows(count),
            positions,
            sampling,
            backend="cpu",
        )
        for row, (name, z) in enumerate(rows.items()):
            token, margin = best_two(z.astype(dtype), temperature, row)
            assert got.choices[row] == token, (name, size)
            np.testing.assert_array_equal(got.margins[row], margin, err_msg=f"{name}, {size}")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("temperature", [1e-3, 0.8, 1.0, 50.0])
def test_exit_head_finds_the_best_two_of_all(
    temperature: float, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _native.exit_head
    monkeypatch.setattr(_native, "exit_head", lambda *values, **named: backend(*values, tier, **named))
    large, one = np.full((1, 1), 2.0**20, np.float32), np.ones(1, np.float32)  # normalised: just 1
    for size in SIZES:
        for name, z in hard_logits(size).items():
            if not np.isfinite(z).all() or not np.isfinite(z / np.float32(temperature)).all():
                continue
            columns = {
                "temperatures": np.full(1, temperature, np.float32),
                "seeds": np.full(1, SEED, np.uint64),
                "positions": np.full(1, 3, np.int32),
            }
            got = exit_head(large, one, z[:, None], **columns, backend="cpu")
            token, margin = best_two(z, temperature, 3)
            assert got.tokens[0] == token, (name, size)
            np.testing.assert_array_equal(got.margins[0], margin, err_msg=f"{name}, {size}")
