"""The draft engine: it computes what the transformers model computes, in every shape a session asks for."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_drafts import CONTEXT, FAMILY, GROUPED, VOCABULARY, compiled, moved

from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.tensorrt_engines.draft_shape import DraftShape

pytest.importorskip("torch")

SCORE_BOUND = 1e-5
"""Of the largest score: what float32 may differ by between ONNX Runtime and transformers."""

TEXT: list[int] = np.random.default_rng(0).integers(0, VOCABULARY, 330).tolist()

Results = tuple[NDArray[np.int32], NDArray[np.float32]]


@pytest.fixture
def engine() -> DraftEngine:
    return load_draft(compiled() / "engine")


def run(engine: DraftEngine, piece: Piece) -> Results:
    return engine.run(piece, None, None, 1.0)


def joined(results: Sequence[Results]) -> Results:
    return np.concatenate([best for best, _ in results]), np.concatenate([scores for _, scores in results])


def run_text(
    engine: DraftEngine, text: Sequence[int], lengths: Sequence[int], order: NDArray[Any] | None = None
) -> Results:
    """Run the text in chunks that end at these lengths; order: the slots, as they are taken."""
    slots, tree = SlotMap(engine.capacity), DraftTree(len(text))
    pieces = [slots.plan(text, length, tree, []) for length in lengths]
    if order is not None:
        pieces = [moved(piece, order) for piece in pieces]
    return joined([run(engine, piece) for piece in pieces])


def reference(text: Sequence[int], name: str = GROUPED) -> NDArray[np.float32]:
    """transformers' logits [R, V] of a text."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(compiled(name) / "model", dtype=torch.float32)
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([text])).logits[0].numpy()
    return logits


def assert_chooses_like(logits: NDArray[np.float32], results: Results) -> None:
    """The K best of each row by score and, where no near-tie decides, by id."""
    best, scores = results
    bound = SCORE_BOUND * np.abs(logits).max()
    expected = np.argsort(-logits, axis=1, kind="stable")[:, : best.shape[1] + 1]
    expected_scores = np.take_along_axis(logits, expected, axis=1)
    np.testing.assert_allclose(scores, expected_scores[:, :-1], rtol=0, atol=bound)
    clear = (np.diff(-expected_scores, axis=1) > 2 * bound).all(axis=1)
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(best[clear], expected[clear, :-1])


def assert_same(left: Results, right: Results) -> None:
    np.testing.assert_array_equal(left[0], right[0])
    np.testing.assert_allclose(left[1], right[1], rtol=0, atol=SCORE_BOUND * np.abs(right[1]).max())


@pytest.mark.parametrize("name", FAMILY)
def test_a_chunk_and_then_one_token_at_a_time_choose_what_transformers_chooses(name: str) -> None:
    engine = load_draft(compiled(name) / "engine")
    results = run_text(engine, TEXT, [100, *range(101, len(TEXT) + 1)])
    assert_chooses_like(reference(TEXT, name), results)


@pytest.mark.parametrize("lengths", [[1, 2, 3], [128, 256, 330], [330], [63, 64, 65, 191, 192, 330]])
def test_how_a_text_is_cut_into_chunks_does_not_matter(engine: DraftEngine, lengths: list[int]) -> None:
    text = TEXT[: lengths[-1]]
    whole = run_text(engine, text, [len(text)])
    engine.reset()
    assert_same(run_text(engine, text, lengths), whole)


def test_where_the_slots_lie_does_not_matter(engine: DraftEngine) -> None:
    lengths = [40, 41, 44, 100]
    straight = run_text(engine, TEXT[:100], lengths)
    engine.reset()
    order = np.random.default_rng(1).permutation(engine.capacity)
    assert_same(run_text(engine, TEXT[:100], lengths, order), straight)


def test_a_tree_equals_its_paths_run_one_by_one(engine: DraftEngine) -> None:
    text = TEXT[:20]
    tree = DraftTree(len(text))
    parents = [ROOT, ROOT, ROOT, 1, 1, 2, 4, 4, 6, 8, 8, 11]
    for node, parent in enumerate(parents, start=1):
        tree.add(node, parent, TEXT[100 + node], 0.5)
    slots = SlotMap(engine.capacity)
    pieces = [
        slots.plan(text, len(text), tree, [1, 2]),
        slots.plan(text, len(text), tree, list(range(3, 13))),
    ]
    order = np.random.default_rng(2).permutation(engine.capacity)
    best, scores = joined([run(engine, moved(piece, order)) for piece in pieces])

    for node in range(1, len(parents) + 1):
        row = len(text) + node - 1
        path = text + tree.path_tokens(node)
        engine.reset()
        alone_best, alone_scores = run_text(engine, path, range(1, len(path) + 1))
        assert_same((best[row : row + 1], scores[row : row + 1]), (alone_best[-1:], alone_scores[-1:]))


def test_slots_of_dead_branches_serve_again(engine: DraftEngine) -> None:
    text = list(TEXT[:8])
    slots = SlotMap(engine.capacity)
    node = 0
    for _ in range(150):
        tree = DraftTree(len(text))
        siblings = [node := node + 1 for _ in range(3)]
        for sibling in siblings:
            tree.add(sibling, ROOT, sibling % VOCABULARY, 0.5)
        run(engine, slots.plan(text, len(text), tree, siblings))
        kept = siblings[node % 3]
        text.append(tree[kept].token)
        slots.commit(tree.commit([text[-1]]), tree)
    engine_results = run(engine, slots.plan([*text, 5], len(text) + 1, DraftTree(len(text) + 1), []))
    assert slots.cached_length < engine.capacity < slots.cached_length + 3 * 150

    engine.reset()
    best, scores = run_text(engine, [*text, 5], [len(text) + 1])
    assert_same(engine_results, (best[-1:], scores[-1:]))


def test_a_wide_mask_leaves_nothing_behind_for_a_narrower_one_of_its_bucket(engine: DraftEngine) -> None:
    assert 384 in engine.manifest.buckets and 320 not in engine.manifest.buckets
    token, position, slot = (np.array([value], dtype=np.int32) for value in (3, 9, 0))
    nothing, itself = np.zeros((1, 320), dtype=np.bool_), np.ones((1, 1), dtype=np.bool_)
    piece = Piece(token, position, slot, nothing, itself, np.zeros(320, dtype=np.int32))
    alone = run(engine, piece)
    run_text(engine, TEXT, [len(TEXT)])
    run(engine, replace(piece, cached=np.ones((1, 384), dtype=np.bool_)))
    assert_same(run(engine, piece), alone)


@pytest.mark.parametrize("capacity", [1, 63, 64, 65, 400, 2048, 2050])
def test_buckets_rise_to_the_capacity(capacity: int) -> None:
    widths = DraftShape(1, 1, 1, 1, capacity, 1).buckets
    assert widths == sorted(set(widths)) and widths[-1] == capacity
    assert all(width % 64 == 0 for width in widths[:-1])
    assert all(wide <= 2 * narrow for narrow, wide in itertools.pairwise(widths))


def test_a_text_may_fill_the_cache_to_the_last_slot(engine: DraftEngine) -> None:
    text = (TEXT * 2)[: engine.capacity]
    results = run_text(engine, text, [128, 256, 384, engine.capacity])
    assert_chooses_like(reference(text), results)


def test_noise_is_added_to_the_scores_over_the_temperature(engine: DraftEngine) -> None:
    logits = reference(TEXT[:12])
    noise = np.random.default_rng(3).gumbel(size=(5, VOCABULARY)).astype(np.float32)
    noise_rows = np.array([4, 0, 0, 1, 2, 3, 3, 4, 1, 1, 0, 2], dtype=np.int32)
    slots = SlotMap(engine.capacity)
    results = engine.run(slots.plan(TEXT[:12], 12, DraftTree(12), []), noise, noise_rows, 1 / 0.7)
    assert_chooses_like(logits / np.float32(0.7) + noise[noise_rows], results)
    engine.reset()
    assert_chooses_like(logits, run_text(engine, TEXT[:12], [12]))


def test_noise_in_any_layout_is_read_right(engine: DraftEngine) -> None:
    noise = np.random.default_rng(4).gumbel(size=(VOCABULARY, 6)).astype(np.float32)
    rows = np.arange(3, dtype=np.int32)
    piece = SlotMap(engine.capacity).plan(TEXT[:3], 3, DraftTree(3), [])
    assert_same(engine.run(piece, noise.T[::2], rows, 1.0), engine.run(piece, noise.T[::2].copy(), rows, 1.0))


def test_equal_scores_go_to_the_lower_id(engine: DraftEngine) -> None:
    noise = np.full((1, VOCABULARY), -np.inf, dtype=np.float32)
    noise[0, [70, 9, 33, 52, 60]] = 0.0
    piece = SlotMap(engine.capacity).plan(TEXT[:1], 1, DraftTree(1), [])
    best, scores = engine.run(piece, noise, np.zeros(1, dtype=np.int32), 0.0)
    assert best.tolist() == [[9, 33, 52, 60]] and scores.tolist() == [[0.0] * 4]


def test_only_the_deciding_rows_choose_and_all_rows_are_cached(engine: DraftEngine) -> None:
    noise = np.random.default_rng(5).gumbel(size=(9, VOCABULARY)).astype(np.float32)
    rows = np.arange(9, dtype=np.int32)[::-1].copy()
    slots = SlotMap(engine.capacity)
    first, second = (slots.plan(TEXT, length, DraftTree(len(TEXT)), []) for length in (9, 18))
    every = engine.run(first, noise, rows, 1.5)
    following = run(engine, second)

    engine.reset()
    decide = np.array([7, 0, 7], dtype=np.int32)
    assert_same(engine.run(first, noise, rows, 1.5, decide), (every[0][decide], every[1][decide]))
    engine.reset()
    best, scores = engine.run(first, None, None, 1.0, np.zeros(0, dtype=np.int32))
    assert best.shape == scores.shape == (0, engine.choices)
    assert_same(run(engine, second), following)


def test_results_outlive_the_next_run(engine: DraftEngine) -> None:
    best, scores = run_text(engine, TEXT[:4], [4])
    kept = best.copy(), scores.copy()
    run_text(engine, TEXT[50:54], [4])
    assert_same((best, scores), kept)


def test_more_shapes_than_are_kept_still_run_right(engine: DraftEngine) -> None:
    for rows in range(1, 160):
        run_text(engine, TEXT[:rows], [rows])
    first = run_text(engine, TEXT[:3], [1, 2, 3])
    best, scores = run_text(engine, TEXT[:30], [30])
    assert_same(first, (best[:3], scores[:3]))


def test_an_engine_says_what_it_is(engine: DraftEngine) -> None:
    hashes = {Tokenizer.load(at).vocabulary_hash for at in (compiled() / "model", engine.tokenizer_path)}
    assert hashes == {engine.vocabulary_hash}
    assert (engine.capacity, engine.choices, engine.vocabulary_size) == (CONTEXT, 4, VOCABULARY)
    assert engine.manifest.architecture == "LlamaForCausalLM"
    assert 0 < engine.calibration.probability(1.0, 0.8) < 1
    assert engine.calibration.ranks == engine.choices


def test_an_engine_runs_in_a_process_that_never_imports_torch() -> None:
    program = """
import sys
from edgespec.engines.draft_engine import load_draft
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
engine = load_draft(sys.argv[1])
best, _ = engine.run(SlotMap(engine.capacity).plan([1, 2, 3], 3, DraftTree(3), []), None, None, 1.0)
assert best.shape == (3, 4)
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "onnx", "onnxscript"}))
"""
    command = [sys.executable, "-c", program, str(compiled() / "engine")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
