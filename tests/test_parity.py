"""Engines against transformers: the bundled draft on held-out prompts, thousands of commits, Vicuna-68M's shape."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_drafts import VICUNA, compiled

from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.bundled import PAIR_DRAFT, bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.train.corpus import collect

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS, PROMPT_LENGTH = 120, 48

SCORE_BOUND = 2e-4
"""What float32 logits of the bundled draft, of a spread of about 3, may differ by between the two."""

HALVES_BOUND = 0.03
"""What halves may change of a score, as a share of the scores' standard deviation."""

COMMITS, TURN_LENGTH = 1500, 400

ROW_BYTES = 8192
"""More than a run may allocate; a row of noise or of scores takes 16 KiB, a slot of the cache 1 KiB."""


@pytest.fixture
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Stretches of held-out files, none of which overlap."""

    def stretches() -> Iterator[list[int]]:
        tokenizer = Tokenizer.load(PAIR_DRAFT)
        for document in collect().held_out:
            tokens = tokenizer.encode(document.text[:6000])
            for start in range(0, len(tokens) - PROMPT_LENGTH + 1, PROMPT_LENGTH):
                yield tokens[start : start + PROMPT_LENGTH]

    found = stretches()
    return [next(found) for _ in range(PROMPTS)]


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(PAIR_DRAFT, dtype=torch.float32)


def test_ids_on_held_out_prompts_are_those_of_transformers(
    engine: DraftEngine, model: Any, prompts: list[list[int]]
) -> None:
    near_ties = 0
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0].numpy()
        engine.reset()
        piece = SlotMap(engine.capacity).plan(prompt, len(prompt), DraftTree(len(prompt)), [])
        best, scores = engine.run(piece, None, None, 1.0)
        expected = np.argsort(-logits, axis=1, kind="stable")[:, : best.shape[1] + 1]
        right = np.take_along_axis(logits, expected, axis=1)
        np.testing.assert_allclose(scores, right[:, :-1], rtol=0, atol=SCORE_BOUND)
        clear = (np.diff(-right, axis=1) > 2 * SCORE_BOUND).all(axis=1)
        np.testing.assert_array_equal(best[clear], expected[clear, :-1])
        near_ties += int((~clear).sum())
    print(f"{near_ties} of {PROMPTS * PROMPT_LENGTH} rows hold a near-tie among their five best")
    assert near_ties < 0.02 * PROMPTS * PROMPT_LENGTH


@pytest.mark.timeout(300)
def test_vicuna_68ms_shape_is_compiled_and_decodes_as_transformers_does() -> None:
    """In halves, as for a GPU."""
    folder = compiled(VICUNA, runtime="tensorrt-rtx")
    engine = load_draft(folder / "engine", "onnxruntime")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    text: list[int] = np.random.default_rng(0).integers(0, 32000, 100).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([text])).logits[0].numpy()
    slots, tree = SlotMap(engine.capacity), DraftTree(len(text))
    for length in (90, *range(91, 101)):
        best, scores = engine.run(slots.plan(text, length, tree, []), None, None, 1.0)
        row, bound = logits[length - 1], HALVES_BOUND * float(logits.std())
        np.testing.assert_allclose(scores[-1], np.sort(row)[::-1][: engine.choices], rtol=0, atol=bound)
        assert row[best[-1, 0]] >= row.max() - bound


def test_slots_serve_again_over_thousands_of_commits(engine: DraftEngine) -> None:
    rng = np.random.default_rng(0)
    slots, text, node = SlotMap(engine.capacity), rng.integers(5, 4000, 8).tolist(), 0
    for _ in range(COMMITS):
        if len(text) == TURN_LENGTH:
            text = text[: int(rng.integers(8, TURN_LENGTH))]
            slots.truncate(len(text) - 1)
        tree = DraftTree(len(text))
        siblings = list(range(node + 1, node + 4))
        node += 3
        for sibling in siblings:
            tree.add(sibling, ROOT, (sibling * 37) % 4000, 0.3)
        engine.run(slots.plan(text, len(text), tree, siblings), None, None, 1.0)
        text.append(tree[siblings[int(rng.integers(3))]].token)
        slots.commit(tree.commit([text[-1]]), tree)
    text.append(5)
    best, scores = engine.run(slots.plan(text, len(text), DraftTree(len(text)), []), None, None, 1.0)
    engine.reset()
    fresh = SlotMap(engine.capacity).plan(text, len(text), DraftTree(len(text)), [])
    fresh_best, fresh_scores = engine.run(fresh, None, None, 1.0, np.array([len(text) - 1], dtype=np.int32))
    np.testing.assert_allclose(scores[-1:], fresh_scores, rtol=0, atol=SCORE_BOUND)
    assert best[-1, 0] == fresh_best[0, 0]


def test_a_run_of_a_known_shape_allocates_no_row_of_the_vocabulary_or_of_the_cache(
    engine: DraftEngine,
) -> None:
    noise = np.random.default_rng(1).gumbel(size=(1, engine.vocabulary_size)).astype(np.float32)
    which = np.zeros(1, dtype=np.int32)
    text = list(range(5, 105))
    slots = SlotMap(engine.capacity)
    engine.run(slots.plan(text, 80, DraftTree(80), []), None, None, 1.0)
    pieces = [slots.plan(text, length, DraftTree(length), []) for length in range(81, 101)]
    for piece in pieces:
        engine.run(piece, noise, which, 1.25)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for piece in pieces:
            engine.run(piece, noise, which, 1.25)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < ROW_BYTES and after - before < ROW_BYTES
