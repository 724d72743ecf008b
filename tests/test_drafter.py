"""The drafter over real engines: what a run finds depends neither on what ran before it nor on its number of levels."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scripted_models import HashModel
from stubs import StubDraft
from tiny_drafts import VOCABULARY, save_family_member

from edgespec.core.errors import EdgespecError
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import Drafter, Growth
from edgespec.engines.compiling import compile
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import LEVELS_FILE, EngineManifest

LEVELS = 3
SCRIPTED = HashModel()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family_member(tmp_path_factory.mktemp("model"), "llama, tied, grouped")


@pytest.fixture(scope="module")
def engine_of(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], DraftEngine]:
    """A fresh engine whose runs may grow LEVELS levels of so many rows; 0: single levels only."""
    made: dict[int, Path] = {}

    def make(branches: int) -> DraftEngine:
        if branches not in made:
            levels = {"levels": LEVELS, "level_branches": branches} if branches else {}
            made[branches] = tmp_path_factory.mktemp("engine") / "engine"
            compile(model, made[branches], runtime="onnxruntime", max_len=400, progress=False, **levels)
        return load_draft(made[branches])

    return make


def one(drafter: Drafter, text: list[int], tree: DraftTree, node: int) -> Growth:
    return drafter.grow(text, tree, [node])[0]


def test_a_node_that_ran_as_an_ancestor_may_still_be_asked_for() -> None:
    drafter, text, tree = Drafter(StubDraft(SCRIPTED), 0.0, 0), [1, 2, 3], DraftTree(3)  # type: ignore[arg-type]
    first = one(drafter, text, tree, ROOT).tokens[0]
    tree.add(1, ROOT, first)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    assert one(drafter, text, tree, 1).tokens == list(SCRIPTED.draft([*text, first])[0])
    assert one(drafter, text, tree, 2).tokens == list(SCRIPTED.draft([*text, first, 7])[0])


def test_so_may_one_that_became_the_end_of_the_text() -> None:
    drafter, text, tree = Drafter(StubDraft(SCRIPTED), 0.0, 0), [1, 2, 3], DraftTree(3)  # type: ignore[arg-type]
    one(drafter, text, tree, ROOT)
    tree.add(1, ROOT, 5)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    drafter.commit(tree.commit([5]), tree)
    assert one(drafter, [*text, 5], tree, ROOT).tokens == list(SCRIPTED.draft([*text, 5])[0])


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("branches", [1, 3])
def test_levels_in_one_run_find_what_single_levels_find(
    engine_of: Callable[[int], DraftEngine], branches: int, temperature: float
) -> None:
    rng = random.Random(branches)
    text = [rng.randrange(VOCABULARY) for _ in range(20)]
    tree, ids = DraftTree(len(text)), iter(range(1, 100_000))
    by_levels = Drafter(engine_of(branches), temperature, seed=5)
    singly = Drafter(engine_of(0), temperature, seed=5)
    grown: set[int] = set()
    deepest = 0

    def grew(node: int, tokens: list[int], probabilities: list[float]) -> None:
        nonlocal deepest
        found = one(singly, text, tree, node)
        assert tokens == found.tokens
        np.testing.assert_allclose(probabilities, found.probabilities, atol=1e-4)
        grown.add(node)
        deepest = max(deepest, tree.depth(node))
        for token in tokens[: rng.randint(1, 4)]:
            if tree.child(node, token) is None:
                tree.add(next(ids), node, token)

    for _ in range(60):
        able = [node for node in (ROOT, *tree) if node not in grown]
        node = ROOT if ROOT in able else rng.choice(able)
        if rng.random() < 0.7 and by_levels.reaches(text, tree, node, remaining=200):
            by_levels.grow_levels(text, tree, node, grew)
        else:
            found = one(by_levels, text, tree, node)
            grew(node, found.tokens, found.probabilities)
        if rng.random() < 0.5:
            at, path = ROOT, []
            while (children := tree.children(at)) and rng.random() < 0.8:
                token, at = rng.choice(list(children.items()))
                path.append(token)
            path.append(rng.randrange(VOCABULARY))
            nodes = tree.commit(path)
            text += path
            grown = {node for node in grown if node != ROOT and node in tree}
            for drafter in (by_levels, singly):
                drafter.commit(nodes, tree)
        if rng.random() < 0.1:
            del text[-3:]
            tree.clear(len(text))
            grown.clear()
            for drafter in (by_levels, singly):
                drafter.truncate(len(text) - 1)
    assert deepest >= LEVELS - 1


@pytest.mark.parametrize("ranks", [2, 6])
def test_a_run_keeps_what_is_likeliest_at_its_temperature(tmp_path: Path, ranks: int) -> None:
    """Whatever the ranks that were fitted; at temperature 1 the second best is made the likelier."""
    model = save_family_member(tmp_path / "model", "llama, tied, grouped")
    fitted = {
        0.0: [(0.5, 0.95), (0.4, 0.03), *((0.02, 0.01) for _ in range(2, ranks))],
        1.0: [(0.2, 0.3), (0.9, 0.7), *((0.02, 0.01) for _ in range(2, ranks))],
    }
    temperatures = [
        {"temperature": at, "ranks": [{"margins": [0.0, 4.0], "probabilities": ends} for ends in curves]}
        for at, curves in fitted.items()
    ]
    (model / "calibration.json").write_text(json.dumps({"version": 1, "temperatures": temperatures}))
    folder = compile(
        model, tmp_path / "engine", runtime="onnxruntime", levels=LEVELS, level_branches=2, progress=False
    )
    check_what_is_kept(load_draft(folder), 0.0, [0, 1])
    check_what_is_kept(load_draft(folder), 1.0, [1, 0])


def check_what_is_kept(engine: DraftEngine, temperature: float, order: list[int]) -> None:
    """Of the first level these two ranks; of the second the likeliest two by the probabilities that the drafter says."""
    drafter, tree = Drafter(engine, temperature, seed=3), DraftTree(20)
    reach, found, ids = {ROOT: 1.0}, dict[int, list[int]](), iter(range(1, 100))

    def grew(node: int, tokens: list[int], probabilities: list[float]) -> None:
        found[node] = [next(ids) for _ in tokens]
        for child, token, rng in zip(found[node], tokens, probabilities, strict=True):
            tree.add(child, node, token)
            reach[child] = reach[node] * rng

    drafter.grow_levels(list(range(20)), tree, ROOT, grew)
    first, second, third, *last = found
    assert [found[first].index(node) for node in (second, third)] == order
    among = found[second] + found[third]
    assert last == sorted(among, key=lambda child: -reach[child])[:2]


def test_a_run_that_would_leave_the_text_or_the_cache_is_none(
    engine_of: Callable[[int], DraftEngine],
) -> None:
    engine = engine_of(1)
    drafter, tree = Drafter(engine, 0.0, 0), DraftTree(10)
    text = list(range(10))
    assert drafter.reaches(text, tree, ROOT, remaining=LEVELS)
    assert not drafter.reaches(text, tree, ROOT, remaining=LEVELS - 1)
    long = [1] * (engine.capacity - 2)
    assert not drafter.reaches(long, DraftTree(len(long)), ROOT, remaining=100)
    assert not Drafter(engine_of(0), 0.0, 0).reaches(text, tree, ROOT, remaining=100)


def test_the_manifest_says_what_a_run_may_grow(engine_of: Callable[[int], DraftEngine], model: Path) -> None:
    manifest = engine_of(3).manifest
    assert (manifest.levels, manifest.level_branches) == (LEVELS, 3) and LEVELS_FILE in manifest.files
    assert f"--levels {LEVELS} --level-branches 3" in manifest.rebuild_command(model)
    plain: EngineManifest = engine_of(0).manifest
    assert plain.levels == 1 and LEVELS_FILE not in plain.files
    assert plain.input_hash != manifest.input_hash


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": 17}, "one run cannot grow 17 levels"),
        ({"levels": 2, "level_branches": 5}, "1 to 4 rows"),
    ],
)
def test_levels_that_cannot_be_are_refused(
    model: Path, tmp_path: Path, options: dict[str, int | str], says: str
) -> None:
    with pytest.raises(EdgespecError, match=says):
        compile(model, tmp_path / "engine", **{"runtime": "onnxruntime", **options})  # type: ignore[arg-type]
    assert not (tmp_path / "engine").exists()
