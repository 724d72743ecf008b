"""Many sessions in one forward: each must get what it gets alone, wherever its pages lie. In float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_target_exits import PlainExits
from tiny_models import FAMILIES, VOCABULARY, random_tree, save, tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET, SlotMap
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.memory import parse_memory
from edgespec.model.target import Target
from edgespec.model.target_engine import Decisions, ExitRows, ForwardRequest, KvFull


class Text:
    """A session's text and tree on a target."""

    def __init__(self, target: Target, length: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tokens: list[int] = self.random.integers(3, VOCABULARY, length).tolist()
        self.slots = SlotMap(target.context_length)
        self.cache = target.open_cache(self.slots.capacity)
        self.sampling = SamplingParams(temperature=[0.0, 0.8, 1.2][seed % 3], top_k=[0, 7][seed % 2])
        self.seed = seed

    def part(self, length: int, nodes: int = 0, **options: Any) -> ForwardRequest:
        """The rows up to `length`, and a random tree behind them; decided from the last row of the text
        on."""
        tree = random_tree(np.random.default_rng(self.seed), length, nodes)
        piece = self.slots.plan(self.tokens, length, tree, range(1, nodes + 1))
        decide = np.arange(len(piece) - nodes - 1, len(piece))
        return ForwardRequest(self.cache, piece, decide, self.sampling, self.seed, **options)


def assert_same(left: Decisions, right: Decisions) -> None:
    assert left.path.tolist() == right.path.tolist()
    assert left.tokens.tolist() == right.tokens.tolist()
    np.testing.assert_allclose(left.logprobs, right.logprobs, atol=1e-5)
    np.testing.assert_allclose(left.margins, right.margins, atol=1e-4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.load(save(tiny(), tmp_path_factory.mktemp("llama")), dtype="float64", kv_memory="64MiB")


@pytest.mark.parametrize("family", FAMILIES)
def test_sessions_together_get_what_each_gets_alone(family: str, tmp_path: Path) -> None:
    target = Target.load(save(tiny(family), tmp_path), dtype="float64", kv_memory="64MiB")
    shapes = [(5, 3), (70, 0), (21, 12), (130, 1)]

    def forwards() -> list[list[ForwardRequest]]:
        """Three prefills; then their trees beside a fourth one's prefill; then the fourth one's tree."""
        texts = [Text(target, length, seed) for seed, (length, _) in enumerate(shapes)]
        prefill = [text.part(length - 3) for text, (length, _) in zip(texts, shapes, strict=True)]
        verify = [text.part(length, nodes) for text, (length, nodes) in zip(texts, shapes, strict=True)]
        return [prefill[:3], [*verify[:3], prefill[3]], verify[3:]]

    together = [decisions for parts in forwards() for decisions in target.forward_batch(parts)]
    alone = [target.forward_batch([part])[0] for parts in forwards() for part in parts]
    for left, right in zip(together, alone, strict=True):
        assert_same(left, right)


def test_each_session_hears_its_own_rows_from_each_exit() -> None:
    target = Target(LoadedModel(tiny(), "tiny", bytes(32)), exits=PlainExits(1, 3), kv_memory="64MiB")

    def run(together: bool) -> dict[int, list[ExitRows]]:
        heard: dict[int, list[ExitRows]] = {0: [], 1: [], 2: []}
        texts = [Text(target, 9 + seed, seed) for seed in range(4)]
        parts = [
            text.part(9 + seed, 2 * seed, on_exit=heard[seed].append if seed < 3 else None)
            for seed, text in enumerate(texts)
        ]
        for batch in [parts] if together else [[part] for part in parts]:
            target.forward_batch(batch)
        return heard

    together, alone = run(True), run(False)
    for seed in range(3):
        assert [rows.layer for rows in together[seed]] == [1, 3]
        for left, right in zip(together[seed], alone[seed], strict=True):
            assert left.tokens.tolist() == right.tokens.tolist()
            np.testing.assert_allclose(left.margins, right.margins, atol=1e-4)
            assert (left.guess.path, left.guess.token) == (right.guess.path, right.guess.token)
            assert left.guess.confidence == pytest.approx(right.guess.confidence, abs=1e-4)


# Pages


def logits(target: Target, text: Text, length: int) -> torch.Tensor:
    part = text.part(length)
    with torch.inference_mode():
        return target.runner.logits([part])[0]


def test_scattered_pages_read_as_pages_side_by_side_do(llama: Target) -> None:
    plain, scattered, between = (Text(llama, 200, 5) for _ in range(3))
    expected = logits(llama, plain, 200)
    scattered.cache.reserve(SLOT_BUCKET)
    between.cache.reserve(SLOT_BUCKET)
    got = logits(llama, scattered, 200)
    assert scattered.cache.start is None
    assert plain.cache.start is not None
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_what_another_session_left_in_a_page_is_not_read_though_it_is_no_number(llama: Target) -> None:
    """Pages are cleared when they are first seen, a few in a forward, not all when they are taken."""
    text, other = Text(llama, 200, 5), Text(llama, 200, 5)
    expected = logits(llama, text, 200)
    text.cache.release()
    other.cache.reserve(8 * SLOT_BUCKET)
    for layer in llama.pool.pool_layers:
        for page in other.cache.pages:
            place = slice(page * SLOT_BUCKET, (page + 1) * SLOT_BUCKET)
            layer.keys[:, :, place] = layer.values[:, :, place] = float("nan")
    got = logits(llama, other, 200)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    unseen = other.cache.pages[-1] * SLOT_BUCKET
    assert llama.pool.pool_layers[0].keys[:, :, unseen].isnan().all(), "nobody has seen it yet"
    llama.pool.clear(other.cache.pages)


def test_memory_that_was_asked_for_is_taken_from_the_system_at_once(tmp_path: Path) -> None:
    folder = save(tiny("llama"), tmp_path / "model")
    command = [sys.executable, str(Path(__file__).with_name("claimed_memory.py")), str(folder)]
    before, after = map(float, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert before < 0.5 and after == 1.0


def test_a_shared_prefix_is_computed_and_kept_once(llama: Target) -> None:
    first, second = Text(llama, 200, 6), Text(llama, 200, 6)
    expected = logits(llama, first, 200)
    first.cache.publish(first.tokens)
    free = llama.pool.pages.free
    length = second.cache.adopt(second.tokens)
    assert length == 3 * SLOT_BUCKET
    assert llama.pool.pages.free == free
    assert second.cache.pages == first.cache.pages[:3]
    second.slots.adopt(length)
    got = logits(llama, second, 200)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_writing_to_a_shared_page_leaves_it_to_its_other_readers(llama: Target) -> None:
    first, second = Text(llama, 150, 7), Text(llama, 150, 7)
    logits(llama, first, 150)
    first.cache.publish(first.tokens)
    second.slots.adopt(second.cache.adopt(second.tokens))
    second.slots.truncate(70)
    second.tokens[70:] = [5] * 80
    fresh = Text(llama, 150, 7)
    fresh.tokens[70:] = [5] * 80
    torch.testing.assert_close(logits(llama, second, 150), logits(llama, fresh, 150), rtol=0, atol=1e-9)
    assert second.cache.pages[0] == first.cache.pages[0]
    assert second.cache.pages[1] != first.cache.pages[1]
    third = Text(llama, 150, 7)
    third.slots.adopt(third.cache.adopt(third.tokens))
    again = Text(llama, 150, 7)
    torch.testing.assert_close(logits(llama, third, 150), logits(llama, again, 150), rtol=0, atol=1e-9)


def test_a_dropped_cache_is_rebuilt_from_its_tokens(llama: Target) -> None:
    text, whole = Text(llama, 100, 8), Text(llama, 100, 8)
    logits(llama, text, 90)
    text.cache.release()
    text.slots.truncate(0)
    torch.testing.assert_close(logits(llama, text, 100), logits(llama, whole, 100), rtol=0, atol=1e-9)


def test_pages_come_back_with_nothing_of_their_last_reader_in_them(llama: Target) -> None:
    spoilt = Text(llama, 64, 9)
    logits(llama, spoilt, 64)
    pages = list(spoilt.cache.pages)
    for layer in llama.pool.pool_layers:
        layer.values[:, :, spoilt.cache.pool_slots(np.arange(64))] = torch.nan
    spoilt.cache.release()
    fresh = Text(llama, 10, 9)
    fresh.cache.reserve(64)
    assert fresh.cache.pages == pages
    assert torch.isfinite(logits(llama, fresh, 10)).all()


# The budget


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000", 1000), (5, 5), ("2GiB", 2 << 30), ("1.5 MB", 1.5e6), ("40%", 400), ("3kB", 3000)],
)
def test_memory_is_bytes_with_a_unit_or_a_share(text: str | int, value: float) -> None:
    assert parse_memory(text, 1000) == value


@pytest.mark.parametrize("text", ["much", "0", "120%", "-3", "4 XB", ""])
def test_memory_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EdgespecError, match="--kv-memory"):
        parse_memory(text, 1000)


@pytest.mark.parametrize(("memory", "sentence"), [("10kB", "too small"), ("999999GiB", "are missing")])
def test_a_budget_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, memory: str, sentence: str) -> None:
    folder = save(tiny(), tmp_path)
    with pytest.raises(EdgespecError, match=sentence) as caught:
        Target.load(folder, kv_memory=memory)
    assert "\n" not in str(caught.value)


def test_a_session_that_does_not_fit_takes_nothing(llama: Target) -> None:
    cache = llama.open_cache(10**9)
    free = llama.pool.pages.free
    with pytest.raises(KvFull) as caught:
        cache.reserve((free + 3) * SLOT_BUCKET + 10**6)
    assert caught.value.missing_slots > 3 * SLOT_BUCKET
    assert llama.pool.pages.free == free
