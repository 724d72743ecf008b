"""Several levels in one run: the tree that single levels grow, in torch, in ONNX Runtime; and its TensorRT-RTX plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from tiny_drafts import VOCABULARY, save_family_member
from torch import Tensor

from edgespec.core.calibration import Calibration
from edgespec.tensorrt_engines.draft_graph import CHOICES, DraftGraph
from edgespec.tensorrt_engines.export import load_model, make_graph
from edgespec.tensorrt_engines.levels_graph import INPUTS, LevelsGraph, export_levels, probability_of

TEXT: list[int] = np.random.default_rng(0).integers(0, VOCABULARY, 40).tolist()
CACHED, SLOTS, LEVELS = 36, 64, 3
TEMPERATURE = 0.8
SHAPES = pytest.mark.parametrize("branches", [1, 2, 4])

MARGINS = np.array([0.1, 0.36, 0.69, 1.2, 2.3])
CALIBRATION = Calibration(
    {
        TEMPERATURE: (
            (MARGINS, np.array([0.33, 0.44, 0.57, 0.78, 0.95])),
            (MARGINS, np.array([0.28, 0.21, 0.17, 0.07, 0.021])),
            (MARGINS, np.array([0.12, 0.11, 0.073, 0.041, 0.013])),
            (MARGINS, np.array([0.063, 0.052, 0.037, 0.019, 0.0085])),
        )
    }
)
"""Without equal probabilities: which of two equally likely nodes is kept is anybody's choice."""

KNOTS, PROBABILITIES = (
    torch.tensor(np.stack([curve[part] for curve in CALIBRATION.curves[TEMPERATURE]]), dtype=torch.float32)
    for part in (0, 1)
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> DraftGraph:
    folder = save_family_member(tmp_path_factory.mktemp("model"), "llama, tied, grouped")
    return make_graph(load_model(folder), 400, "fp32")


@pytest.fixture(scope="module")
def inputs(graph: DraftGraph) -> tuple[Any, ...]:
    """Four rows of a text, the last of which decides, behind a cache of the 36 before them in shuffled slots."""
    rng = np.random.default_rng(1)
    slots = torch.tensor(rng.permutation(SLOTS)[:CACHED])
    cache = graph.empty_cache(SLOTS)
    _, _, rows = whole_text(graph, TEXT[:CACHED])
    for part, new in zip(cache, rows, strict=True):
        part[slots] = new
    cached = torch.zeros(len(TEXT) - CACHED, SLOTS, dtype=torch.bool)
    cached[:, slots] = True
    count = len(cached)
    return (
        torch.tensor(TEXT[CACHED:], dtype=torch.int32),
        torch.arange(CACHED, len(TEXT), dtype=torch.int32),
        cached,
        torch.ones(count, count, dtype=torch.bool).tril(),
        torch.tensor([count - 1], dtype=torch.int32),
        torch.tensor(rng.gumbel(size=(LEVELS, VOCABULARY)), dtype=torch.float32),
        torch.tensor(1 / TEMPERATURE),
        KNOTS,
        PROBABILITIES,
        cache,
    )


@torch.no_grad()
def whole_text(
    graph: DraftGraph, text: list[int], noise: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """A text without a cache: the best choices behind its last token, their scores, and all rows."""
    count = len(text)
    best, scores, rows = graph(
        torch.tensor(text, dtype=torch.int32),
        torch.arange(count, dtype=torch.int32),
        torch.zeros(count, 0, dtype=torch.bool),
        torch.ones(count, count, dtype=torch.bool).tril(),
        torch.tensor([count - 1], dtype=torch.int32),
        torch.zeros(1, VOCABULARY) if noise is None else noise.unsqueeze(0),
        torch.zeros(1, dtype=torch.int32),
        torch.tensor(1 / TEMPERATURE),
        graph.empty_cache(0),
    )
    return best[0], scores[0], rows


def level_by_level(
    graph: DraftGraph, noise: Tensor, branches: int
) -> list[list[tuple[list[int], int, float]]]:
    """By level: kept paths, the number of the one above, reach. Paths are run whole, probabilities are Calibration's."""
    levels: list[list[tuple[list[int], int, float]]] = []
    above: list[tuple[list[int], int, float]] = [([], 0, 1.0)]
    for level in range(LEVELS):
        found: list[tuple[list[int], int, float]] = []
        for number, (path, _, reach) in enumerate(above):
            best, scores, _ = whole_text(graph, TEXT + path, noise[level])
            margin = float(scores[0] - scores[1])
            for rank in range(CHOICES if branches > 1 else 1):
                probability = CALIBRATION.probability(margin, TEMPERATURE, rank)
                found.append(([*path, int(best[rank])], number, reach * probability))
        above = sorted(found, key=lambda kept: -kept[2])[:branches]
        levels.append(above)
    return levels


@SHAPES
def test_one_run_grows_the_tree_that_single_levels_grow(
    graph: DraftGraph, inputs: tuple[Any, ...], branches: int
) -> None:
    with torch.no_grad():
        best, _, tokens, parents, rows = LevelsGraph(graph, LEVELS, branches)(*inputs)
    expected = level_by_level(graph, inputs[INPUTS.index("noise")], branches)
    assert [level.tolist() for level in tokens] == [[path[-1] for path, _, _ in kept] for kept in expected]
    assert [level.tolist() for level in parents] == [[above for _, above, _ in kept] for kept in expected]
    assert best.shape == (LEVELS, branches, CHOICES)
    assert rows.shape[1] == len(TEXT) - CACHED + (LEVELS - 1) * branches


@SHAPES
def test_the_rows_that_come_back_are_those_of_the_kept_paths(
    graph: DraftGraph, inputs: tuple[Any, ...], branches: int
) -> None:
    with torch.no_grad():
        *_, rows = LevelsGraph(graph, LEVELS, branches)(*inputs)
    expected = level_by_level(graph, inputs[INPUTS.index("noise")], branches)
    first = len(TEXT) - CACHED
    for level, kept in enumerate(expected[:-1]):
        for number, (path, _, _) in enumerate(kept):
            _, _, alone = whole_text(graph, TEXT + path)
            row = rows[:, first + level * branches + number]
            torch.testing.assert_close(row, alone[:, -1], rtol=0, atol=1e-4)


def test_the_probability_in_the_graph_is_the_calibrations() -> None:
    margins = np.array([0.0, 0.1, 0.2, 0.36, 1.0, 2.3, 50.0], dtype=np.float32)
    expected = [CALIBRATION.probability(margins, TEMPERATURE, rank) for rank in range(CHOICES)]
    found = probability_of(torch.tensor(margins), KNOTS, PROBABILITIES).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def file_of(graph: DraftGraph, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    made: dict[int, Path] = {}

    def make(branches: int) -> Path:
        if branches not in made:
            made[branches] = tmp_path_factory.mktemp("levels") / "levels.onnx"
            export_levels(graph, made[branches], LEVELS, branches)
        return made[branches]

    return make


@pytest.mark.parametrize("branches", [1, 3])
def test_onnx_runtime_computes_what_torch_does(
    graph: DraftGraph, inputs: tuple[Any, ...], file_of: Callable[[int], Path], branches: int
) -> None:
    session = onnxruntime.InferenceSession(str(file_of(branches)), providers=["CPUExecutionProvider"])
    *plain, cache = inputs
    values = dict(zip(INPUTS, plain, strict=True)) | {f"cache_{i}": part for i, part in enumerate(cache)}
    wanted = {value.name for value in session.get_inputs()}
    results = session.run(None, {name: value.numpy() for name, value in values.items() if name in wanted})
    with torch.no_grad():
        expected = LevelsGraph(graph, LEVELS, branches)(*inputs)
    for index, (found, right) in enumerate(zip(results, expected, strict=True)):
        exact = found.dtype == np.int32
        np.testing.assert_allclose(
            found, right.numpy(), rtol=0, atol=0 if exact else 1e-3, err_msg=str(index)
        )


@pytest.mark.parametrize("branches", [0, CHOICES + 1])
def test_more_branches_than_choices_are_refused(graph: DraftGraph, branches: int) -> None:
    with pytest.raises(ValueError, match="branches of 4 choices"):
        LevelsGraph(graph, LEVELS, branches)
