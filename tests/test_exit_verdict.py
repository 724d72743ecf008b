"""exit_verdict in every backend beside its reference and the verifier's own walk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.kernels.exit_verdict import Curves, Trees, exit_verdict

CALIBRATION = Calibration.from_json(
    {
        "version": 1,
        "temperatures": [
            {"temperature": 0.0, "ranks": [{"margins": [0.5, 1.0, 4.0], "probabilities": [0.2, 0.6, 0.9]}]},
            {"temperature": 0.8, "ranks": [{"margins": [0.0, 2.0], "probabilities": [0.1, 1.0]}]},
        ],
    }
)
CURVES = Curves.of(CALIBRATION)


def random_trees(sessions: int, largest: int, vocabulary: int, random: np.random.Generator) -> Trees:
    """Trees of random sizes and shapes, siblings with different tokens."""
    sizes = random.integers(1, largest + 1, sessions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    parents, tokens = np.full(offsets[-1], -1), np.full(offsets[-1], -1)
    for first, size in zip(offsets, sizes, strict=False):
        taken = set()
        for row in range(1, size):
            parent, token = int(random.integers(0, row)), int(random.integers(0, vocabulary))
            while (parent, token) in taken:
                parent, token = int(random.integers(0, row)), int(random.integers(0, vocabulary))
            taken.add((parent, token))
            parents[first + row], tokens[first + row] = parent, token
    return Trees(offsets, parents, tokens)


def case(
    backend: str, tokens: NDArray[Any], margins: NDArray[Any], trees: Trees, curve_of: NDArray[Any]
) -> Any:
    given = (np.asarray(tokens, np.int32), np.asarray(margins, np.float32))
    if backend == "triton":
        given = tuple(torch.from_numpy(array) for array in given)  # type: ignore[assignment]
    hints = exit_verdict(*given, trees, CURVES, curve_of, backend=backend)
    return type(hints)(*(np.asarray(column) for column in vars(hints).values()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_says_what_the_reference_says(backend: str) -> None:
    random = np.random.default_rng(4)
    for _ in range(3 if backend == "triton" else 50):
        trees = random_trees(5, 9, 4, random)
        rows = trees.offsets[-1]
        tokens, margins = random.integers(-1, 4, rows), random.gumbel(1, 2, rows)
        curve_of = random.integers(0, 2, 5).astype(np.int32)
        got, want = (case(one, tokens, margins, trees, curve_of) for one in (backend, "reference"))
        np.testing.assert_array_equal(got.lengths, want.lengths)
        np.testing.assert_array_equal(got.paths, want.paths)
        np.testing.assert_array_equal(got.tokens, want.tokens)
        np.testing.assert_allclose(got.confidences, want.confidences, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_hint_is_the_path_the_token_behind_it_and_the_product_of_its_probabilities(backend: str) -> None:
    #      root -> 5 -> 7 ; root -> 6
    trees = Trees([0, 4], [-1, 0, 0, 1], [-1, 5, 6, 7])
    margins = np.array([1.0, 4.0, 9.0, 0.75])
    hint = case(backend, np.array([5, 7, 1, 9]), margins, trees, np.zeros(1, np.int32))
    assert (hint.lengths.tolist(), hint.paths.tolist(), hint.tokens.tolist()) == ([2], [[1, 3, -1]], [9])
    probabilities = np.asarray(CALIBRATION.probability(margins, 0.0))
    np.testing.assert_allclose(
        hint.confidences, probabilities[0] * probabilities[1] * probabilities[3], rtol=1e-6
    )


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_row_that_is_not_sound_ends_the_hint(backend: str) -> None:
    trees = Trees([0, 2, 3], [-1, 0, -1], [-1, 5, -1])
    hint = case(
        backend, np.array([5, -1, 3]), np.array([1.0, np.nan, 1.0]), trees, np.array([0, 1], np.int32)
    )
    assert hint.tokens.tolist() == [-1, 3]
    assert hint.confidences[0] == 0
    assert hint.lengths.tolist() == [1, 0]


def test_a_temperature_uses_the_nearest_curve() -> None:
    assert CURVES.index([0.0, 0.39, 0.41, 2.0]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize(
    ("trees", "message"),
    [
        (Trees([0, 3], [-1, 0, 2], [-1, 1, 2]), "parents must be"),
        (Trees([0, 3], [0, 0, 1], [-1, 1, 2]), "parents must be"),
        (Trees([0, 2], [-1, 0, 1], [-1, 1, 2]), "offsets must be"),
        (Trees([0, 3, 3], [-1, 0, 1], [-1, 1, 2]), "offsets must be"),
        (Trees([0, 3], [-1, 0], [-1, 1, 2]), r"parents must be \[3\]"),
        (Trees([0, 3], [-1, 0, 1], [-1, -1, 2]), "tokens must be"),
    ],
)
def test_trees_that_are_none_are_named(trees: Trees, message: str, backend: str) -> None:
    with pytest.raises(EdgespecError, match=message):
        exit_verdict(TOKENS, torch.zeros(3), trees, CURVES, [0], backend=backend)


TOKENS = torch.zeros(3, dtype=torch.int32)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens", torch.zeros(0, dtype=torch.int32), "tokens must be"),
        ("tokens", torch.zeros(3, dtype=torch.int64), "tokens must be int32"),
        ("tokens", torch.zeros(6, dtype=torch.int32)[::2], "tokens must be contiguous"),
        ("tokens", [0, 0, 0], "tokens must be a numpy array or a torch tensor"),
        ("margins", torch.zeros(2), r"margins must be \[3\]"),
        ("margins", torch.zeros(3, dtype=torch.float64), "margins must be float32"),
        ("margins", torch.zeros(3, device="meta"), "tokens and margins must be on one device"),
        ("margins", torch.tensor([1.0, float("nan"), 1.0]), "margins must be numbers"),
        ("curve_of", [2], "curve_of must be from 0 to 1"),
        ("curve_of", [0, 0], r"curve_of must be \[1\]"),
        (
            "curves",
            Curves(CURVES.margins, CURVES.probabilities[:, :1], (0.0, 0.8)),
            "curves.probabilities must be",
        ),
        ("curves", Curves(CURVES.margins[:0], CURVES.probabilities[:0], ()), "curves.margins must be"),
        ("backend", "fast", "backend must be"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: object, message: str, backend: str) -> None:
    trees = Trees([0, 3], [-1, 0, 1], [-1, 1, 2])
    given = {
        "tokens": TOKENS,
        "margins": torch.zeros(3),
        "curves": CURVES,
        "curve_of": [0],
        "backend": backend,
    }
    with pytest.raises(EdgespecError, match=message):
        exit_verdict(trees=trees, **{**given, name: value})  # type: ignore[arg-type]
