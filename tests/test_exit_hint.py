"""exit_hint in every backend: what exit_head and exit_verdict say together, in the running forward's cells alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from numpy.typing import NDArray
from test_exit_verdict import CURVES, random_trees

from edgespec.core.errors import EdgespecError
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_hint import exit_hint
from edgespec.kernels.exit_verdict import exit_verdict

ROWS, SESSIONS, WIDTH, VOCABULARY = 16, 5, 80, 12
PLACES, EXITS = 8, 3


def inputs(seed: int) -> dict[str, Any]:
    """Rows of three sessions, and what fills up rows and sessions; a vocabulary so small that drafts are right."""
    random = np.random.default_rng(seed)
    trees = random_trees(3, 5, VOCABULARY, random)
    spare = ROWS - int(trees.offsets[-1])

    def filled(values: Any, count: int, dtype: Any) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([values, np.full(count, values[-1])]).astype(dtype))

    return {
        "hidden": torch.from_numpy(random.normal(size=(ROWS, WIDTH)).astype(np.float32)),
        "norm": torch.ones(WIDTH),
        "head": torch.from_numpy(random.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)),
        "temperatures": torch.from_numpy(random.choice([0.0, 0.8], ROWS).astype(np.float32)),
        "seeds": torch.full((ROWS,), -5),
        "positions": torch.arange(ROWS, dtype=torch.int32) + 90,
        "trees": Trees(
            filled(trees.offsets, SESSIONS - 3, np.int32),
            filled(trees.parents, spare, np.int32),
            filled(trees.tokens, spare, np.int32),
        ),
        "curves": Curves(
            torch.from_numpy(CURVES.margins),  # type: ignore[arg-type]
            torch.from_numpy(CURVES.probabilities),  # type: ignore[arg-type]
            CURVES.temperatures,
        ),
        "curve_of": torch.tensor([0, 1, 1, 0, 0], dtype=torch.int32),
    }


def written(given: dict[str, Any], number: int, exit: int, backend: str) -> NDArray[np.int32]:
    words = torch.zeros(2, PLACES, EXITS, CELL_WORDS, dtype=torch.int32)
    sequence = torch.tensor([number], dtype=torch.int32)
    exit_hint(**given, cells=Cells(words, sequence, exit), backend=backend)
    return words.numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_cell_holds_what_the_exit_says_of_its_session(backend: str, seed: int) -> None:
    given = inputs(seed)
    trees: Trees = given["trees"]
    rows = int(trees.offsets[-1])
    columns = {k: given[k][:rows] for k in ("temperatures", "seeds", "positions")}
    scores = exit_head(
        given["hidden"][:rows].numpy(),
        given["norm"].numpy(),
        given["head"].numpy(),
        **columns,
        backend="reference",
    )
    own = Trees(trees.offsets[:4], trees.parents[:rows], trees.tokens[:rows])
    curve_of = np.array([0, 1, 1], np.int32)
    hints = exit_verdict(scores.tokens, scores.margins, own, CURVES, curve_of)
    cells = written(given, number=7, exit=1, backend=backend)[1, :3, 1]
    assert cells[:, 0].tolist() == [7, 7, 7]
    assert cells[:, 1].tolist() == hints.lengths.tolist()
    ends = [
        path[length - 1] if length else 0 for path, length in zip(hints.paths, hints.lengths, strict=True)
    ]
    assert cells[:, 2].tolist() == ends
    assert cells[:, 3].tolist() == hints.tokens.tolist()
    np.testing.assert_allclose(cells[:, 4].copy().view(np.float32), hints.confidences, rtol=1e-3, atol=1e-5)


def test_some_paths_are_followed() -> None:
    assert any((written(inputs(seed), 7, 0, "cpu")[1, :3, 0, 1] > 0).any() for seed in range(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forward_writes_to_its_half_and_an_exit_to_its_column(backend: str) -> None:
    given = inputs(1)
    for number, exit in ((2, 0), (3, 2)):
        words = written(given, number, exit, backend)
        touched = np.argwhere(words.any(axis=-1))
        assert {(half, column) for half, _, column in touched.tolist()} == {(number % 2, exit)}
        assert set(words[..., 0].ravel().tolist()) == {0, number}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_is_no_number_says_so(backend: str) -> None:
    given = inputs(0)
    given["hidden"][0] = float("nan")
    words = written(given, 1, 0, backend)[1, :, 0]
    assert words[0, 3] == -1 and words[0, 4:5].view(np.float32)[0] == 0 and words[1, 3] >= 0


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            Cells(torch.zeros(2, 8, 1, 7, dtype=torch.int32), torch.ones(1, dtype=torch.int32), 0),
            "words must be",
        ),
        (Cells(torch.zeros(2, 8, 1, 8), torch.ones(1, dtype=torch.int32), 0), "words must be int32"),
        (
            Cells(torch.zeros(2, 4, 1, 8, dtype=torch.int32), torch.ones(1, dtype=torch.int32), 0),
            "5 sessions",
        ),
        (
            Cells(torch.zeros(2, 8, 1, 8, dtype=torch.int32), torch.ones(1, dtype=torch.int32), 1),
            "exit must be",
        ),
        (
            Cells(torch.zeros(2, 8, 1, 8, dtype=torch.int32), torch.ones(2, dtype=torch.int32), 0),
            "sequence must",
        ),
    ],
)
def test_cells_that_do_not_fit_are_refused(cells: Cells, message: str) -> None:
    with pytest.raises(EdgespecError, match=message):
        exit_hint(**inputs(0), cells=cells)
