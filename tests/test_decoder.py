"""The native decoder gives the model's own logits, whatever runs beside a row and on however many threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import FAMILIES, SIZE, VOCABULARY, random_tree, tiny

from edgespec import _native
from edgespec.core.slots import Piece, SlotMap
from edgespec.kernels.data import HeadSettings
from edgespec.kernels.exit_head import exit_head
from edgespec.model import decoder
from edgespec.model.decoder import NativeDecoder
from edgespec.model.kv_cache import KvPool, TargetCache
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import SessionRows

KNOWN = ["llama", "llama without groups", "mistral without window", "qwen2", "qwen3"]
TIERS = _native.simd_tiers()


def model_of(family: str, **changes: Any) -> Any:
    if family == "mistral without window":
        config: Any = transformers.MistralConfig(**{**SIZE, **changes}, sliding_window=None)
    else:
        config = type(FAMILIES[family])(**{**FAMILIES[family].to_diff_dict(), **changes})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    return model


def target_of(model: Any, native: bool = True) -> Target:
    return Target(LoadedModel(model, "tiny", b""), native=native, kv_memory="4MiB")


class Text:
    """A text with a random tree behind it, on a target."""

    def __init__(self, target: Target, length: int, nodes: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.cache: TargetCache = target.open_cache(target.context_length)
        slots = SlotMap(target.context_length)
        tokens = random.integers(3, VOCABULARY, length).tolist()
        tree = random_tree(random, length, nodes)
        self.pieces: list[Piece] = [
            slots.plan(tokens, length - 3, random_tree(random, length - 3, 0), ()),
            slots.plan(tokens, length, tree, range(1, nodes + 1)),
        ]

    def forward(self, index: int) -> SessionRows:
        return SessionRows(self.cache, self.pieces[index], np.arange(len(self.pieces[index])))


def logits_of(target: Target, shapes: Sequence[tuple[int, int, int]], alone: bool = False) -> list[Any]:
    """Logits of texts (length, nodes, seed), forward by forward: prefill, then the tree; in one batch, or
    each text by itself."""
    texts = [Text(target, *shape) for shape in shapes]
    with torch.inference_mode():
        if alone:
            return [
                np.concatenate([target.runner.logits([text.forward(index)]).numpy() for text in texts])
                for index in (0, 1)
            ]
        return [target.runner.logits([text.forward(i) for text in texts]).numpy() for i in (0, 1)]


SHAPES = [(20, 6, 1), (70, 0, 2), (150, 23, 3), (9, 40, 4)]


@pytest.mark.parametrize("family", KNOWN)
def test_logits_are_those_of_the_model(family: str) -> None:
    model = model_of(family)
    native, plain = target_of(model), target_of(model, native=False)
    assert native.runner.decoder is not None and plain.runner.decoder is None
    for got, want in zip(logits_of(native, SHAPES), logits_of(plain, SHAPES), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize(
    "size", [dict(num_attention_heads=6, num_key_value_heads=1), dict(head_dim=40), dict(head_dim=64)]
)
def test_any_grouping_and_any_width_of_heads_will_do(size: dict[str, int]) -> None:
    model = model_of("llama", **size)
    for got, want in zip(
        logits_of(target_of(model), SHAPES), logits_of(target_of(model, native=False), SHAPES), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_a_key_head_may_serve_more_queries_than_a_block_holds() -> None:
    model = model_of("llama", num_attention_heads=48, num_key_value_heads=2, head_dim=4)
    got, want = logits_of(target_of(model), SHAPES)[1], logits_of(target_of(model, native=False), SHAPES)[1]
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_weights_that_bfloat16_holds_give_the_same_bits_as_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("llama").to(torch.bfloat16).float()
    narrow = logits_of(target_of(model), SHAPES)
    with torch.no_grad():
        for layer in model.model.layers:
            # One weight that bfloat16 does not hold makes its matrix one of float32; times zero it changes nothing.
            layer.mlp.down_proj.weight[:, 0] = 0.0
            layer.mlp.gate_proj.weight[0] = 0.0
    both = logits_of(target_of(model), SHAPES)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, 0] = 1.0000001
    wide = logits_of(target_of(model), SHAPES)
    assert not np.array_equal(narrow[1], both[1])
    for got, want in zip(wide, both, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_row_has_the_same_bits_whatever_runs_beside_it() -> None:
    target = target_of(model_of("llama"))
    for got, want in zip(logits_of(target, SHAPES), logits_of(target, SHAPES, alone=True), strict=True):
        np.testing.assert_array_equal(got, want)


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen3")
    alone = logits_of(target_of(model), SHAPES)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for got, want in zip(logits_of(target_of(model), SHAPES), alone, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("tier", TIERS)
def test_every_simd_tier_agrees(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen2", head_dim=32)
    want = logits_of(target_of(model, native=False), SHAPES)
    made = _native.Decoder

    def at_tier(**arguments: Any) -> Any:
        return made(**arguments, tier=tier)

    monkeypatch.setattr(decoder._native, "Decoder", at_tier)
    for got, plain in zip(logits_of(target_of(model), SHAPES), want, strict=True):
        np.testing.assert_allclose(got, plain, atol=2e-4 * np.abs(plain).max())


def test_scattered_pages_are_read_where_they_lie() -> None:
    target, plain = (target_of(model_of("llama"), native=native) for native in (True, False))
    for one in (target, plain):
        holes = [one.open_cache(64) for _ in range(6)]
        for hole in holes:
            hole.reserve(64)
        for hole in holes[::2]:
            hole.release()
    got, want = logits_of(target, [(300, 30, 5)]), logits_of(plain, [(300, 30, 5)])
    np.testing.assert_allclose(got[1], want[1], atol=2e-4 * np.abs(want[1]).max())


def test_an_exit_guesses_what_the_kernel_guesses() -> None:
    model = model_of("qwen3").to(torch.bfloat16).float()
    native = NativeDecoder.wanted(LoadedModel(model, "tiny", bytes(32)))
    assert native is not None
    random = np.random.default_rng(8)
    hidden = torch.from_numpy(random.normal(size=(23, 48)).astype(np.float32))
    norm = torch.from_numpy(random.uniform(0.5, 2.0, 48).astype(np.float32))
    rows = (
        random.choice([0.0, 0.8], 23).astype(np.float32),
        random.integers(0, 2**63, 23).astype(np.uint64),
        np.arange(23, dtype=np.int32),
    )
    temperatures, seeds, positions = rows
    want = exit_head(
        hidden,
        norm,
        model.lm_head.weight.detach(),
        temperatures=temperatures,
        seeds=seeds,
        positions=positions,
        settings=HeadSettings(1e-5),
        backend="reference",
    )
    tokens, margins = native.guess(hidden, norm, 1e-5, *rows)
    np.testing.assert_array_equal(tokens, want.tokens)
    np.testing.assert_allclose(margins, want.margins, atol=1e-4)
    hidden[3] = float("nan")
    assert native.guess(hidden, norm, 1e-5, *rows)[0][3] == -1


def test_a_model_that_it_gets_wrong_runs_on_its_own_modules(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = _native.Decoder
    monkeypatch.setattr(
        decoder._native, "Decoder", lambda **arguments: made(**{**arguments, "epsilon": 10.0})
    )
    target = target_of(model_of("llama"))
    assert target.runner.decoder is None and "transformers' modules" in caplog.text
    monkeypatch.undo()
    got, want = logits_of(target, SHAPES), logits_of(target_of(model_of("llama"), native=False), SHAPES)
    np.testing.assert_array_equal(got[1], want[1])


def _hooked(model: Any) -> Any:
    model.model.layers[1].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny("llama", torch.float64),
        lambda: tiny("llama", torch.bfloat16),
        lambda: tiny("mistral", torch.float32),
        lambda: tiny("gemma2", torch.float32),
        lambda: tiny("cohere", torch.float32),
        lambda: model_of("llama", mlp_bias=True),
        lambda: model_of("llama", hidden_act="gelu"),
        lambda: _hooked(model_of("llama")),
    ],
    ids=["float64", "bfloat16", "window", "family", "another family", "bias", "activation", "hook"],
)
def test_what_it_does_not_know_is_left_to_the_model(make: Any) -> None:
    assert NativeDecoder.wanted(LoadedModel(make(), "tiny", bytes(32))) is None


def test_sizes_that_do_not_fit_are_refused_before_anything_is_read() -> None:
    model = model_of("llama")
    native = NativeDecoder.wanted(LoadedModel(model, "tiny", bytes(32)))
    assert native is not None
    native._use(KvPool(4, 2))
    hidden, angles = np.zeros((2, 48), np.float32), np.zeros((2, 12), np.float32)
    seen, slots = np.zeros((2, 64), np.uint8), np.zeros(2, np.int64)
    stretches = np.array([[0, 64, 64]], np.int64)
    shifted = np.array([[0, 65, 64]], np.int64)
    run = native._decoder.run
    run(0, 4, hidden, angles, angles, slots, [(0, 2, seen, stretches)])
    for bad in (
        (0, 5, hidden, angles, angles, slots, [(0, 2, seen, stretches)]),
        (0, 4, hidden[:, :40].copy(), angles, angles, slots, [(0, 2, seen, stretches)]),
        (0, 4, hidden, angles[:1], angles, slots, [(0, 2, seen, stretches)]),
        (0, 4, hidden, angles, angles, slots + 128, [(0, 2, seen, stretches)]),
        (0, 4, hidden, angles, angles, slots - 1, [(0, 2, seen, stretches)]),
        (0, 4, hidden, angles, angles, slots, [(0, 3, seen, stretches)]),
        (0, 4, hidden, angles, angles, slots, [(0, 2, seen, shifted)]),
        (0, 4, hidden, angles, angles, slots, [(0, 2, seen, stretches[:0])]),
    ):
        with pytest.raises(ValueError):
            run(*bad)
    with pytest.raises(ValueError):
        native._decoder.logits(hidden[:, :40].copy())
    with pytest.raises(ValueError):
        native._decoder.remember_in([], [])
