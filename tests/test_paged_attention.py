"""The target's attention over pages, chosen on the CPU by the table that chooses it on a GPU: eager and by graphs, it
decides what SDPA decides."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from stubs import serving
from test_cuda_graphs import Rerun, forwards, load
from test_golden_texts import RECORDED, session
from test_target_batch import Text, assert_same
from tiny_models import FAMILIES, LATENT, tiny
from transformers import AutoModelForCausalLM

from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.model import backends, target
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.paged_attention import PAGED_ATTENTION, PagedLayout
from edgespec.model.reference import generate
from edgespec.model.static_attention import StaticMasks, StaticPlans
from edgespec.model.static_inputs import Bucket
from edgespec.model.support import UnsupportedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import Decisions


@pytest.fixture
def over_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", "cpu")


def decisions(target: Target) -> list[Decisions]:
    return [decided for parts in forwards(target) for decided in target.forward_batch(parts)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_decides_over_pages_what_it_decides_by_sdpa(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = decisions(load(tmp_path, family))
    monkeypatch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", "cpu")
    target = load(tmp_path, family)
    assert target.runner.paged is not None and target.runner.decoder is None
    eager = decisions(target)
    graphs = Rerun()
    target.use_graphs(graphs)
    graphed = decisions(target)
    assert graphs.replays == 3  # the prefill of 67 and 18 rows is beyond the buckets
    for got in (eager, graphed):
        for left, right in zip(got, want, strict=True):
            assert_same(left, right)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kernel_of_any_backend_serves_the_target(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def logits() -> torch.Tensor:
        model = tiny("granite", torch.float32)
        model.model.layers, model.config.num_hidden_layers = model.model.layers[:1], 1
        served = Target(LoadedModel(model, "tiny", bytes(32)), native=False, kv_memory="16MiB")
        text = Text(served, 70, 1)
        with torch.inference_mode():
            served.runner.logits([text.part(64)])
            return served.runner.logits([text.part(70, 3)])

    want = logits()
    monkeypatch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", backend)
    monkeypatch.setattr(
        target, "check_forward_size", lambda runner: None
    )  # the interpreter copies what it is given
    torch.testing.assert_close(logits(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "graphed"), [("sync", True), ("preempt", False)])
def test_texts_over_pages_are_those_recorded(over_pages: None, mode: str, graphed: bool) -> None:
    """By graphs, and eagerly with exits: in float64 these are not read by graphs."""
    case = next(case for case in RECORDED["cases"] if case["name"] == "temperature")
    target = Target.load(None, dtype="float64")
    graphs = Rerun()
    target.use_graphs(graphs)
    engine = load_draft(bundled_engine())
    with serving(target) as server, session([server], engine, mode, **case["params"]) as one:
        one.prompt(case["prompt"])
        list(one)
        assert one.tokens == case["turns"][0]["tokens"]
    assert (graphs.replays > 0) == graphed


@pytest.mark.parametrize("family", ["gemma2", "qwen3"])
def test_a_models_own_forward_stays_what_it_was(over_pages: None, family: str) -> None:
    params = SamplingParams(max_new_tokens=20, seed=4, temperature=0.9)
    model = LoadedModel(tiny(family), family, bytes(32))
    want = generate(model, [5, 6, 7], params)
    assert Target(model, kv_memory="16MiB").runner.paged is not None
    assert model.config._attn_implementation == PAGED_ATTENTION
    assert generate(model, [5, 6, 7], params).tokens == want.tokens


def test_pages_of_others_are_not_read(over_pages: None, tmp_path: Path) -> None:
    """They may even hold no numbers."""
    target, other = load(tmp_path), load(tmp_path)
    text, fresh = Text(target, 130, 1), Text(other, 130, 1)
    text.cache.reserve(3 * SLOT_BUCKET)
    own = torch.zeros(target.pool.pages.count * SLOT_BUCKET, dtype=torch.bool)
    own[text.cache.pool_slots(np.arange(3 * SLOT_BUCKET))] = True
    for layer in target.pool.pool_layers:
        for memory in (layer.keys, layer.values):
            memory[:, :, ~own] = torch.nan
    assert_same(target.forward_batch([text.part(130, 3)])[0], other.forward_batch([fresh.part(130, 3)])[0])


def test_one_bucket_of_slots_serves_every_width() -> None:
    assert StaticPlans.widths[-1] > StaticMasks.widths[-1]
    assert (
        Bucket.of(3, 64, StaticPlans.widths) == Bucket.of(3, 20_000, StaticPlans.widths) == Bucket(4, 32768)
    )


def test_latents_are_not_attended_over_pages(over_pages: None) -> None:
    model = AutoModelForCausalLM.from_config(LATENT, dtype=torch.float32).eval()
    assert Target(LoadedModel(model, "latent", bytes(32))).runner.paged is None


def test_a_model_that_fails_over_pages_is_served_as_before(
    over_pages: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise UnsupportedModel("its layers do not share keys alike.")

    monkeypatch.setattr(PagedLayout, "attend", fail)
    model = tiny("granite")
    before = model.config._attn_implementation
    with caplog.at_level(logging.WARNING):
        target = Target(LoadedModel(model, "odd", bytes(32)), kv_memory="16MiB")
    assert target.runner.paged is None and model.config._attn_implementation == before
    assert "odd attends by torch, not over pages: its layers do not share keys alike" in caplog.text


def test_a_gpu_attends_over_pages_where_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for launches, backend in ((True, "triton"), (False, None)):
        monkeypatch.setattr(backends, "_launches", lambda index, it=launches: it)
        assert backends.attention_backend_on(gpu, torch.bfloat16) == backend
        assert backends.attention_backend_on(gpu, torch.float64) is None
    assert backends.attention_backend_on(torch.device("cpu"), torch.float32) is None
