"""The deterministic target: a token's logits are the same bits, whatever runs beside it and however it
came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_target_batch import Text
from test_target_exits import PlainExits
from tiny_models import VOCABULARY, random_tree, tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import FreeSlots, SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, SessionRows


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma3"])
def ordered(request: pytest.FixtureRequest) -> Target:
    model = tiny(request.param, torch.float32)
    from edgespec.model.attention import SLOT_ATTENTION

    model.set_attn_implementation(SLOT_ATTENTION)
    return Target(LoadedModel(model, "tiny", bytes(32)), kv_memory="64MiB", deterministic=True)


def plain_of(ordered: Target) -> Target:
    return Target(LoadedModel(ordered.model.module, "tiny", bytes(32)), kv_memory="64MiB")


def bits(target: Target, parts: list[Any]) -> list[torch.Tensor]:
    with torch.inference_mode():
        logits = target.runner.logits(parts)
    return list(torch.split(logits, [len(part.decide) for part in parts]))


def test_sixteen_sessions_together_have_the_bits_that_each_has_alone(ordered: Target) -> None:
    shapes = [(3 + 11 * seed % 150, seed % 6) for seed in range(16)]

    def parts() -> list[Any]:
        return [
            Text(ordered, length, seed).part(length, nodes) for seed, (length, nodes) in enumerate(shapes)
        ]

    together = bits(ordered, parts())
    alone = [bits(ordered, [part])[0] for part in parts()]
    for left, right in zip(together, alone, strict=True):
        assert torch.equal(left, right)


def test_a_token_has_the_same_bits_as_a_draft_as_committed_text_and_in_any_slot(ordered: Target) -> None:
    random = np.random.default_rng(3)
    text = random.integers(3, VOCABULARY, 90).tolist()

    def last_bits(cuts: list[int], first_slot: int) -> torch.Tensor:
        slots = SlotMap(ordered.context_length)
        slots.free = FreeSlots(slots.capacity, used=first_slot)
        cache = ordered.open_cache(slots.capacity)
        with torch.inference_mode():
            for cut in cuts:
                piece = slots.plan(text, cut, DraftTree(cut), [])
                logits = ordered.runner.logits([SessionRows(cache, piece, np.array([len(piece) - 1]))])
        return logits[0]

    expected = last_bits([90], 0)
    assert torch.equal(last_bits([1, 17, 50, 51, 89, 90], 0), expected)
    assert torch.equal(last_bits([64, 90], 100), expected)

    tree = DraftTree(80)
    for node in range(1, 11):
        tree.add(node, node - 1, text[79 + node], 0.5)
    slots = SlotMap(ordered.context_length)
    with torch.inference_mode():
        piece = slots.plan(text, 80, tree, range(1, 11))
        logits = ordered.runner.logits(
            [SessionRows(ordered.open_cache(slots.capacity), piece, np.array([len(piece) - 1]))]
        )
    assert torch.equal(logits[0], expected)


def test_it_computes_what_the_plain_forward_does(ordered: Target) -> None:
    plain = plain_of(ordered)
    random = np.random.default_rng(4)
    text = random.integers(3, VOCABULARY, 70).tolist()
    tree = random_tree(random, 70, 9)
    rows = np.arange(69, 79)
    results = []
    for target in (ordered, plain):
        piece = SlotMap(512).plan(text, 70, tree, range(1, 10))
        with torch.inference_mode():
            results.append(target.runner.logits([SessionRows(target.open_cache(512), piece, rows)]))
    assert float((results[0] - results[1]).abs().max()) < 1e-4 * float(results[1].std())


def test_hints_come_from_parts_that_one_chunk_holds() -> None:
    from edgespec.model.attention import SLOT_ATTENTION

    model = tiny(dtype=torch.float32)
    model.set_attn_implementation(SLOT_ATTENTION)
    exits = PlainExits(1, 3)
    ordered = Target(LoadedModel(model, "tiny", bytes(32)), exits=exits, deterministic=True)
    plain = Target(LoadedModel(model, "tiny", bytes(32)), exits=exits)
    heard: list[list[ExitRows]] = []
    for target in (ordered, plain):
        rows: list[ExitRows] = []
        text = Text(target, 9, 1)
        target.forward_batch([Text(target, 4, 2).part(4), text.part(9, 2, on_exit=rows.append)])
        heard.append(rows)
    assert [rows.layer for rows in heard[0]][-2:] == [1, 3]
    for left, right in zip(heard[0][-2:], heard[1][-2:], strict=True):
        assert left.tokens.tolist() == right.tokens.tolist()


def test_a_model_with_attention_of_its_own_is_refused() -> None:
    with pytest.raises(EdgespecError, match="--deterministic cannot order it"):
        Target(LoadedModel(tiny("gemma2"), "gemma2", bytes(32)), deterministic=True)
