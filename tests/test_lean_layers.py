"""The target's lean layers, chosen on the CPU by the table that chooses them on a GPU: what they decide is what
transformers' modules decide, in ten kernels a layer."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from kernel_backends import BACKENDS
from test_cuda_graphs import Rerun, forwards
from test_target_batch import Text, assert_same
from test_target_exits import PLAIN, PlainExits
from tiny_models import FAMILIES, SIZE, one_piece, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgespec.kernels import exit_head_launch, layer_launch, tree_attention_launch
from edgespec.kernels.data import Curves
from edgespec.kernels.forward_costs import EXIT_LAUNCHES, LAUNCHES_A_LAYER, LAUNCHES_OUTSIDE
from edgespec.model import backends, target
from edgespec.model.exits import ExitHead, ExitHeads
from edgespec.model.guesses import KernelGuesses
from edgespec.model.lean_layers import LeanLayers
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.mailbox_exits import MailboxExits
from edgespec.model.model_runner import ModelRunner
from edgespec.model.self_check import warm_up
from edgespec.model.support import UnsupportedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, SessionRows

LEAN = [
    "llama",
    "llama without groups",
    "mistral",
    "qwen2",
    "qwen2 mixed",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
]

FAMILIES_HERE = {**FAMILIES, "gemma": transformers.GemmaConfig(**SIZE)}

LAUNCHES = Counter(
    residual_norm=2, rotary_write=1, tree_attention_parts=1, tree_attention_join=1, gated=1, linear=4
)
"""Of a layer: ten."""

GEMMAS = 4
"""Further launches outside the layers: factors, caps, a second kind of positions."""


def model_of(family: str, dtype: torch.dtype = torch.float64, layers: int = 0) -> LoadedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, family, FAMILIES_HERE[family])
        model = tiny(family, dtype)
    if layers:
        model.model.layers, model.config.num_hidden_layers = model.model.layers[:layers], layers
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[:layers]
    return LoadedModel(model, family, bytes(32))


def served(family: str, backend: str | None, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Target:
    """backend: None is transformers' modules and SDPA."""
    monkeypatch.setattr(backends, "ATTENTION_OF_DEVICE", {} if backend is None else {"cpu": backend})
    return Target(model_of(family, **more), kv_memory="16MiB", native=False)


def checked_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one forward, which shows the pool's shape: the interpreter is slow, and copies what it is given."""

    def one_forward(runner: ModelRunner) -> None:
        with torch.inference_mode():
            runner.logits([SessionRows(runner.open_cache(64), one_piece(), np.arange(1))])

    monkeypatch.setattr(target, "check_tree", one_forward)
    monkeypatch.setattr(target, "check_forward_size", lambda runner: None)


@pytest.mark.parametrize("family", LEAN)
def test_lean_layers_decide_what_the_modules_decide(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, lean = (served(family, backend, monkeypatch) for backend in (None, "cpu"))
    assert plain.runner.lean is None and lean.runner.lean is not None
    want = [decided for parts in forwards(plain) for decided in plain.forward_batch(parts)]
    eager = [decided for parts in forwards(lean) for decided in lean.forward_batch(parts)]
    lean.use_graphs(Rerun())
    graphed = [decided for parts in forwards(lean) for decided in lean.forward_batch(parts)]
    for got in (eager, graphed):
        for left, right in zip(got, want, strict=True):
            assert_same(left, right)


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*LEAN}))
def test_other_families_keep_their_modules(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(family, "cpu", monkeypatch, dtype=torch.float32).runner.lean is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_other_types_round_as_the_modules_do(
    family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention sums in another order: the rest is the same bits."""
    rows = []
    for backend in (None, "cpu"):
        one = served(family, backend, monkeypatch, dtype=dtype)
        text = Text(one, 20, 1)
        with torch.inference_mode():
            rows.append(one.runner.logits([text.part(20, 4)]).double())
    spread = rows[0].std()
    assert (rows[0] - rows[1]).abs().max() <= 2 ** {torch.float32: -16, torch.float16: -5}.get(
        dtype, -2
    ) * spread


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["gemma3"])
def test_kernels_of_any_backend_run_the_layers(
    family: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_shortly(monkeypatch)
    rows = []
    for chosen in (None, backend):
        one = served(family, chosen, monkeypatch, dtype=torch.float32, layers=1)
        with torch.inference_mode():
            rows.append(one.runner.logits([Text(one, 9, 1).part(9, 3)]))
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-4)


def test_exits_hear_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[ExitRows]] = []
    for backend in (None, "cpu"):
        monkeypatch.setattr(backends, "ATTENTION_OF_DEVICE", {} if backend is None else {"cpu": backend})
        one = Target(model_of("qwen3"), exits=PlainExits(1, 3), kv_memory="16MiB", native=False)
        own: list[ExitRows] = []
        one.forward_batch([Text(one, 9, 1).part(9, 4, on_exit=own.append)])
        heard.append(own)
    plain, lean = heard
    assert [rows.layer for rows in lean] == [rows.layer for rows in plain] == [1, 3]
    for left, right in zip(lean, plain, strict=True):
        assert left.tokens.tolist() == right.tokens.tolist()
        np.testing.assert_allclose(left.margins, right.margins, atol=1e-4)


def test_joined_weights_are_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = served("qwen2", "cpu", monkeypatch)
    lean, attention = one.runner.lean, one.model.decoder.layers[0].self_attn
    assert lean is not None
    product = lean.layers[0].qkv
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
        assert linear.weight.untyped_storage().data_ptr() == product.weight.untyped_storage().data_ptr()
        assert linear.bias.untyped_storage().data_ptr() == product.bias.untyped_storage().data_ptr()


def test_layers_that_fail_the_check_are_run_by_their_modules(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise UnsupportedModel("they compute something else.")

    monkeypatch.setattr(LeanLayers, "hidden", fail)
    with caplog.at_level(logging.WARNING):
        one = served("llama", "cpu", monkeypatch)
    assert one.runner.lean is None and one.runner.paged is not None
    assert (
        "llama runs on transformers' modules, not on lean layers: they compute something else" in caplog.text
    )


# Kernels a layer


@pytest.mark.parametrize("family", ["llama", "llama without groups"])
def test_every_tile_is_compiled_when_a_model_is_loaded(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = set()

    def launch(kernel: str, programs: int, given: Any, constants: Any, device: Any) -> None:
        if kernel == "tree_attention_parts":
            queries.add(constants["QUERIES"])

    for module in (layer_launch, tree_attention_launch):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    checked_shortly(monkeypatch)
    runner = served(family, "triton", monkeypatch, dtype=torch.float32).runner
    queries.clear()
    warm_up(runner)
    assert queries == {32}  # of float32


class Kernels(TorchDispatchMode):
    """Counts torch's operators that compute something: no views, no empty memory."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {
            one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if torch.is_tensor(one)
        }
        name = function.overloadpacket.__name__
        made = [one for one in tree_leaves(result) if torch.is_tensor(one)]
        view = all(one.untyped_storage().data_ptr() in given for one in made) and not name.endswith("_")
        if not view and not name.startswith(("empty", "new_empty")):
            self.ran[name] += 1
        return result


def kernels_of(
    family: str, backend: str | None, layers: int, monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    """What one forward of a few rows launches: operators of torch, and launches of Triton's, which are only counted."""
    counter = Kernels()
    for module in (layer_launch, tree_attention_launch):
        monkeypatch.setattr(module, "launch", lambda kernel, *_: counter.ran.update([kernel]))
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that Triton's backend is taken on the CPU
    checked_shortly(monkeypatch)
    runner = served(family, backend, monkeypatch, dtype=torch.bfloat16, layers=layers).runner
    rows = SessionRows(runner.open_cache(64), one_piece(), np.arange(4))
    with torch.inference_mode():
        runner.logits([rows])  # which takes a page
        counter.ran.clear()
        with counter:
            runner.logits([rows])
    return counter.ran


def test_an_exit_is_few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As counted for the cost of exits: what the layers behind it wait for, and one launch beside them."""
    counter, rows, width = Kernels(), 4, 32
    monkeypatch.setattr(exit_head_launch, "launch", lambda kernel, *_: counter.ran.update([kernel]))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    parts = (torch.randn(size).bfloat16() for size in ((8, width), (width, 8), (width,)))
    heads = ExitHeads({1: ExitHead(*parts, PLAIN)}, 1e-6, 100, "")
    head = torch.randn(100, width).bfloat16()
    guesses = KernelGuesses(heads, head, None, "triton", None, narrow=True)
    cells = MailboxExits(guesses, {1: Curves.of(PLAIN)}, torch.device("cpu"))
    whole = {
        name: torch.zeros(rows, dtype=torch.int32) for name in ("next_positions", "parents", "tree_tokens")
    }
    inputs: Any = SimpleNamespace(
        selected=torch.arange(rows),
        temperatures=torch.zeros(rows),
        seeds=torch.zeros(rows, dtype=torch.int64),
        offsets=torch.arange(rows + 1, dtype=torch.int32),
        curve_of=torch.zeros(1, rows, dtype=torch.int32),
        sequence=torch.ones(1, dtype=torch.int32),
        **whole,
    )
    hidden = torch.randn(rows, width).bfloat16()
    with torch.inference_mode(), counter:
        cells.publish(inputs, frozenset({1}), 1, hidden)
    beside = counter.ran.pop("exit_head_finish")
    assert (counter.ran.total(), beside) == (EXIT_LAUNCHES, 1), counter.ran


@pytest.mark.parametrize("family", LEAN)
def test_a_layer_is_few_kernels(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as what a model with more layers launches more; transformers' modules with torch's attention launch at
    least four times as many."""
    lean, plain = (
        [kernels_of(family, backend, layers, monkeypatch) for layers in (4, 2)]
        for backend in ("triton", None)
    )
    assert lean[0] - lean[1] == LAUNCHES + LAUNCHES and LAUNCHES.total() == LAUNCHES_A_LAYER
    outside = lean[1] - LAUNCHES - LAUNCHES
    more = GEMMAS if "gemma" in family else 0
    assert LAUNCHES_OUTSIDE <= outside.total() <= LAUNCHES_OUTSIDE + more, outside
    assert (plain[0] - plain[1]).total() / 2 >= 4 * LAUNCHES.total()
