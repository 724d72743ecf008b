"""The target against transformers itself: trees, chunks, slots, windows, generation. In float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import FAMILIES, VOCABULARY, decide, forward_one, random_tree, save, tiny

from edgespec.core.params import SamplingParams
from edgespec.core.slots import FreeSlots, Piece, SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.target import Target
from edgespec.model.target_engine import SessionRows


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def target(family: str, tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.load(save(tiny(family), tmp_path_factory.mktemp("model")), dtype="float64")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.load(save(tiny(), tmp_path_factory.mktemp("llama")), dtype="float64")


def plain_logits(target: Target, text: list[int]) -> torch.Tensor:
    """The model's own logits [V] behind a text, without any cache."""
    with torch.inference_mode():
        logits: torch.Tensor = target.model.module(torch.tensor([text]), use_cache=False).logits[0, -1]
    return logits


def tree_logits(target: Target, cache: Any, piece: Piece, rows: Any) -> torch.Tensor:
    with torch.inference_mode():
        return target.runner.logits([SessionRows(cache, piece, np.asarray(rows, dtype=np.int64))])


def shuffled(slots: SlotMap, random: np.random.Generator) -> SlotMap:
    """A slot map that hands out its first 192 slots in a random order."""
    free = slots.free = FreeSlots(slots.capacity, used=192)
    free._returned = random.permutation(192).tolist()
    free.take = lambda: free._returned.pop()  # type: ignore[method-assign]
    return slots


def node_text(text: list[int], tree: DraftTree, node: int) -> list[int]:
    return text + tree.path_tokens(node)


def assert_same(left: torch.Tensor, right: torch.Tensor) -> None:
    """Equal but for what norms and rotations in float32, as transformers has them, may make of the last
    bits."""
    assert float((left - right).abs().max()) < 1e-5 * float(right.std())


# The slot cache


def test_a_tree_on_permuted_slots_has_the_logits_of_its_chains_over_several_commits(target: Target) -> None:
    random = np.random.default_rng(1)
    slots = shuffled(SlotMap(256), random)
    cache = target.open_cache(slots.capacity)
    text = random.integers(3, VOCABULARY, 21).tolist()
    node_id = 1
    for _ in range(3):
        tree = random_tree(random, len(text), 12, node_id)
        nodes = list(range(node_id, node_id + 12))
        node_id += 12
        pending = len(text) - slots.cached_length
        piece = slots.plan(text, len(text), tree, nodes)
        rows = tree_logits(target, cache, piece, range(pending - 1, pending + 12))
        assert_same(rows[0], plain_logits(target, text))
        for node, row in zip(nodes, rows[1:], strict=True):
            assert_same(row, plain_logits(target, node_text(text, tree, node)))
        deepest = max(nodes, key=lambda n: len(list(tree.path(n))))
        committed = tree.path_tokens(deepest)
        path = tree.commit(committed)
        slots.commit(path, tree)
        text += [*committed, int(random.integers(3, VOCABULARY))]


def test_prefill_in_chunks_is_one_prefill(target: Target) -> None:
    random = np.random.default_rng(2)
    text = random.integers(3, VOCABULARY, 70).tolist()
    slots, tree = SlotMap(128), DraftTree(len(text))
    cache = target.open_cache(128)
    for length in (1, 20, 52, 69):
        nothing = tree_logits(target, cache, slots.plan(text, length, tree, []), [])
        assert nothing.shape == (0, VOCABULARY)
    last = tree_logits(target, cache, slots.plan(text, 70, tree, []), [0])
    assert_same(last[0], plain_logits(target, text))


def test_greedy_decoding_is_that_of_generate_token_for_token(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target.model.module.generation_config, "eos_token_id", None)
    prompt = np.random.default_rng(3).integers(3, VOCABULARY, 5).tolist()
    settings = transformers.GenerationConfig(max_new_tokens=40, do_sample=False, pad_token_id=0)
    expected = target.model.module.generate(torch.tensor([prompt]), generation_config=settings)[0].tolist()
    assert decode(target, prompt, 40, SamplingParams()) == expected


def decode(
    target: Target, prompt: list[int], count: int, sampling: SamplingParams, seed: int = 0
) -> list[int]:
    text = list(prompt)
    slots, tree = SlotMap(target.context_length), DraftTree(len(text))
    cache = target.open_cache(slots.capacity)
    for _ in range(count):
        piece = slots.plan(text, len(text), tree, [])
        decisions = forward_one(target, cache, piece, np.array([len(piece) - 1]), sampling, seed)
        text.append(int(decisions.tokens[0]))
    return text


def test_the_cache_grows_with_the_text_and_writes_only_the_rows(llama: Target) -> None:
    random = np.random.default_rng(4)
    text = random.integers(3, VOCABULARY, 400).tolist()
    slots, tree = SlotMap(450), DraftTree(400)
    cache = llama.open_cache(450)
    assert cache.bytes == 0
    tree_logits(llama, cache, slots.plan(text, 200, tree, []), [])
    small = cache.bytes
    tree_logits(llama, cache, slots.plan(text, 399, tree, []), [])
    assert cache.bytes == 2 * small  # 448 slots, and a page is 64 of them
    before = [(layer.keys, layer.keys.clone()) for layer in llama.pool.pool_layers]
    piece = slots.plan(text, 400, tree, [])
    assert_same(tree_logits(llama, cache, piece, [0])[0], plain_logits(llama, text))
    written = cache.pool_slots(piece.slots)
    others = np.setdiff1d(np.arange(before[0][1].shape[2]), written)
    for layer, (memory, old) in zip(llama.pool.pool_layers, before, strict=True):
        assert layer.keys is memory
        assert torch.equal(memory[:, :, others], old[:, :, others])


def test_a_row_whose_ancestors_lie_behind_a_long_masked_stretch(llama: Target) -> None:
    slots = np.array([1990, 5, 1200], dtype=np.int32)
    positions = np.arange(3, dtype=np.int32)
    slot_positions = np.zeros(2048, dtype=np.int32)
    slot_positions[slots] = positions
    nothing = np.zeros((3, 2048), dtype=np.bool_)
    piece = Piece(
        np.array([8, 9, 10], dtype=np.int32),
        positions,
        slots,
        nothing,
        np.tri(3, dtype=np.bool_),
        slot_positions,
    )
    rows = tree_logits(llama, llama.open_cache(2048), piece, [0, 1, 2])
    for length, row in enumerate(rows, 1):
        assert_same(row, plain_logits(llama, [8, 9, 10][:length]))


# Decisions


def test_decided_rows_are_sampled_at_their_position_plus_one(llama: Target) -> None:
    random = np.random.default_rng(5)
    text = random.integers(3, VOCABULARY, 12).tolist()
    tree = random_tree(random, 12, 6)
    sampling = SamplingParams(temperature=0.8, top_k=30, top_p=0.95)
    piece = SlotMap(64).plan(text, 12, tree, range(1, 7))
    decisions = forward_one(llama, llama.open_cache(64), piece, np.arange(11, 18), sampling, 77)
    for node in range(7):
        chain = node_text(text, tree, node) if node else text
        alone = decide(plain_logits(llama, chain)[None], [len(chain)], sampling, 77)
        assert decisions.tokens[node] == alone.tokens[0]
        assert decisions.logprobs[node] == pytest.approx(alone.logprobs[0], abs=1e-4)
        assert decisions.margins[node] == pytest.approx(alone.margins[0], abs=1e-4)


def test_a_float32_target_decides_as_a_float64_one(llama: Target, tmp_path: Path) -> None:
    single = Target.load(save(tiny(dtype=torch.float32), tmp_path), dtype="float32")
    assert single.model.dtype == torch.float32
    double = Target.load(tmp_path, dtype="float64")
    sampling = SamplingParams(temperature=0.7)
    assert decode(single, [5, 6, 7], 30, sampling, 3) == decode(double, [5, 6, 7], 30, sampling, 3)
