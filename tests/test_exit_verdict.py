"""exit_verdict on the host; in Triton the walk is tested as part of exit_hint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.kernels.data import Curves, Hints, Trees
from edgespec.kernels.exit_verdict import exit_verdict

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
    return Trees.of(offsets, parents, tokens)


def hints_of(tokens: list[int], margins: Any, trees: Trees, curve_of: list[int]) -> Hints:
    given = (np.array(tokens, np.int32), np.asarray(margins, np.float32))
    return exit_verdict(*given, trees, CURVES, np.array(curve_of, np.int32))


def test_a_hint_is_the_path_the_token_behind_it_and_the_product_of_its_probabilities() -> None:
    #      root -> 5 -> 7 ; root -> 6
    trees = Trees.of([0, 4], [-1, 0, 0, 1], [-1, 5, 6, 7])
    margins = np.array([1.0, 4.0, 9.0, 0.75])
    hint = hints_of([5, 7, 1, 9], margins, trees, [0])
    assert (hint.lengths.tolist(), hint.paths.tolist(), hint.tokens.tolist()) == ([2], [[1, 3, -1]], [9])
    probabilities = np.asarray(CALIBRATION.probability(margins, 0.0))
    np.testing.assert_allclose(hint.confidences, probabilities[[0, 1, 3]].prod(), rtol=1e-6)


def test_a_row_that_is_not_sound_ends_the_hint() -> None:
    trees = Trees.of([0, 2, 3], [-1, 0, -1], [-1, 5, -1])
    hint = hints_of([5, -1, 3], [1.0, np.nan, 1.0], trees, [0, 1])
    assert hint.tokens.tolist() == [-1, 3]
    assert hint.confidences[0] == 0
    assert hint.lengths.tolist() == [1, 0]


def test_a_temperature_uses_the_nearest_curve() -> None:
    assert CURVES.index([0.0, 0.39, 0.41, 2.0]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        (([0, 3], [-1, 0, 2], [-1, 1, 2]), "parents must be"),
        (([0, 3], [0, 0, 1], [-1, 1, 2]), "parents must be"),
        (([0, 2], [-1, 0, 1], [-1, 1, 2]), "offsets must be"),
        (([0, 3, 3], [-1, 0, 1], [-1, 1, 2]), "offsets must be"),
        (([3], [-1, 0, 1], [-1, 1, 2]), "offsets must be"),
        (([0, 3], [-1, 0, 1], [-1, 1]), r"tokens must be \[3\]"),
        (([0, 3], [-1, 0, 1], [-1, -1, 2]), "tokens must be"),
    ],
)
def test_trees_that_are_none_are_named(trees: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(EdgespecError, match=message):
        Trees.of(*trees)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.zeros(3, np.int64)}, r"tokens must be int32, not int64: convert it with \.astype"),
        ({"tokens": np.zeros(6, np.int32)[::2]}, "tokens must be contiguous"),
        ({"tokens": [0, 0, 0]}, "tokens must be a numpy array or a torch tensor, not list"),
        ({"tokens": np.zeros(2, np.int32)}, r"margins must be \[2\]"),
        ({"margins": np.zeros(2, np.float32)}, r"margins must be \[3\]"),
        ({"margins": torch.zeros(3, dtype=torch.float64)}, "margins must be float32"),
        ({"curve_of": np.array([2], np.int32)}, "curve_of must be from 0 to 1"),
        ({"curve_of": np.zeros(2, np.int32)}, r"curve_of must be \[1\]"),
        (
            {"curves": Curves(CURVES.margins, CURVES.probabilities[:, :1], (0.0, 0.8))},
            "curves.probabilities must be",
        ),
        ({"curves": Curves(CURVES.margins[:0], CURVES.probabilities[:0], ())}, "curves.margins must be"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    given = {
        "tokens": np.zeros(3, np.int32),
        "margins": np.zeros(3, np.float32),
        "trees": Trees.of([0, 3], [-1, 0, 1], [-1, 1, 2]),
        "curves": CURVES,
        "curve_of": np.zeros(1, np.int32),
    }
    with pytest.raises(EdgespecError, match=message):
        exit_verdict(**{**given, **changes})
