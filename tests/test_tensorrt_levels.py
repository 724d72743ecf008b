"""Several levels in one launch of the TensorRT runtime, on a stand-in for TensorRT: the same as ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tensorrt_runtime import TEXT, Device
from tiny_drafts import VOCABULARY, save_draft

import edgespec
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import Drafter
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import GRAPH_FILE, LEVELS_FILE
from edgespec.tensorrt_engines import check

LEVELS = 2
PLANS = {"file": GRAPH_FILE, "levels_file": LEVELS_FILE}
"""The stand-in's plans are the graphs themselves."""


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of an engine for TensorRT whose runs may grow LEVELS levels of so many rows."""
    made: dict[int, Path] = {}

    def make(branches: int) -> Path:
        if branches not in made:
            folder = tmp_path_factory.mktemp("levels")
            save_draft(folder / "model", num_key_value_heads=2)
            options: dict[str, Any] = {
                "target_device": "orin-nano-8gb",
                "precision": "fp32",
                "progress": False,
            }
            made[branches] = edgespec.compile(
                folder / "model", folder / "engine", levels=LEVELS, level_branches=branches, **options
            )
        return made[branches]

    return make


def grown(engine: DraftEngine, temperature: float) -> list[tuple[int, list[int], list[float]]]:
    """What a drafter finds by levels, after a commit by levels again, and then singly behind every leaf."""
    drafter, text, tree = Drafter(engine, temperature, seed=5), TEXT[:40], DraftTree(40)
    found: list[tuple[int, list[int], list[float]]] = []
    ids = iter(range(1, 1000))

    def grew(node: int, tokens: list[int], probabilities: list[float]) -> None:
        found.append((node, tokens, probabilities))
        for token in tokens:
            tree.add(next(ids), node, token)

    for _ in range(2):
        assert drafter.reaches(text, tree, ROOT, remaining=100)
        drafter.grow_levels(text, tree, ROOT, grew)
        path = [token for token, _ in zip(found[-1][1], range(1), strict=False)]
        node = found[-1][0]
        while node != ROOT:
            path.insert(0, tree.token(node))
            node = tree.parent(node)
        nodes = tree.commit([*path, 7])
        text = [*text, *path, 7]
        drafter.commit(nodes, tree)
    drafter.grow_levels(text, tree, ROOT, grew)
    for leaf in [node for node in tree if not tree.children(node)][:6]:
        [growth] = drafter.grow(text, tree, [leaf])
        found.append((leaf, growth.tokens, growth.probabilities))
    return found


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("branches", [1, 3])
def test_a_drafter_finds_the_same_by_either_runtime(
    exported: Callable[[int], Path], device: Device, branches: int, temperature: float
) -> None:
    folder = exported(branches)
    by_plan = grown(device.engine(folder, **PLANS), temperature)
    by_onnx = grown(load_draft(folder, "onnxruntime"), temperature)
    assert [found[:2] for found in by_plan] == [found[:2] for found in by_onnx]
    for one, other in zip(by_plan, by_onnx, strict=True):
        np.testing.assert_allclose(one[2], other[2], atol=1e-4)
    assert device.memory.activated == 0


@pytest.mark.parametrize("rows", [129, 300])
def test_a_piece_with_more_rows_than_a_plan_takes_is_run_before(
    exported: Callable[[int], Path], device: Device, rows: int
) -> None:
    noise = np.random.default_rng(1).gumbel(size=(LEVELS, VOCABULARY)).astype(np.float32)
    results = []
    for engine in (device.engine(exported(3), **PLANS), load_draft(exported(3), "onnxruntime")):
        assert engine.deep is not None
        slots = SlotMap(engine.capacity)
        piece = slots.plan(TEXT[:rows], rows, DraftTree(rows), [])
        results.append(engine.deep.run(piece, slots.reserve((LEVELS - 1) * 3), noise, 0.8, rows - 1))
    one, other = results
    np.testing.assert_array_equal(one.best, other.best)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.parents, other.parents)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_a_folder_without_a_plan_for_levels_runs_single_ones(
    exported: Callable[[int], Path], device: Device
) -> None:
    assert device.engine(exported(1)).deep is None


def test_the_check_compares_levels_too(
    exported: Callable[[int], Path],
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check, "TEXTS", 2)
    monkeypatch.setattr(check, "TIMED_RUNS", 3)
    device.engine(exported(3), **PLANS)
    assert check.main(exported(3)) == 0
    assert "of 2 levels in one run: 100.00% of" in capsys.readouterr().out
