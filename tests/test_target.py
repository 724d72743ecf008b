"""The target against transformers itself: trees, chunks, slots, windows, generation, exits, refusals. In
float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from edgespec.calibration import Calibration
from edgespec.errors import EdgespecError
from edgespec.exits import ExitHead, ExitHeads, weights_sha256
from edgespec.params import SamplingParams
from edgespec.sampling import decide
from edgespec.slots import Piece, SlotMap
from edgespec.target import ExitRows, Target
from edgespec.target_support import UnsupportedModel
from edgespec.tokenizer import vocabulary_hash
from edgespec.tree import ROOT, DraftTree

VOCABULARY = 97
SIZE: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    max_position_embeddings=512,
    initializer_range=0.2,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
WINDOW = 9
SLIDING = {"sliding_window": WINDOW}
MIXED = ["sliding_attention", "full_attention"] * 2
FAMILIES: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**SIZE),
    "llama without groups": transformers.LlamaConfig(**{**SIZE, "num_key_value_heads": 4}),
    "mistral": transformers.MistralConfig(**SIZE, **SLIDING),
    "qwen2": transformers.Qwen2Config(**SIZE),
    "qwen2 mixed": transformers.Qwen2Config(**SIZE, **SLIDING, use_sliding_window=True, layer_types=MIXED),
    "qwen3": transformers.Qwen3Config(**SIZE),
    "gemma2": transformers.Gemma2Config(**SIZE, **SLIDING, layer_types=MIXED, attn_logit_softcapping=5.0),
    "gemma3": transformers.Gemma3TextConfig(**SIZE, **SLIDING, layer_types=MIXED),
    "cohere": transformers.CohereConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"}),
    "granite": transformers.GraniteConfig(**SIZE, logits_scaling=3.0),
    "gpt-j": transformers.GPTJConfig(
        vocab_size=VOCABULARY,
        n_embd=48,
        n_layer=3,
        n_head=4,
        rotary_dim=4,
        n_positions=512,
        initializer_range=0.2,
    ),
    "gpt-neox": transformers.GPTNeoXConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"}),
    "gpt-oss": transformers.GptOssConfig(
        **SIZE, **SLIDING, layer_types=MIXED, num_local_experts=2, num_experts_per_tok=1
    ),
}


def tiny(family: str = "llama", dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family]), dtype=dtype).eval()


def save(model: Any, folder: Path, tokenizer: bool = True) -> Path:
    model.save_pretrained(folder)
    if tokenizer:
        words = {f"t{i}": i for i in range(VOCABULARY)}
        core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
        core.save(str(folder / "tokenizer.json"))
    return folder


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
        logits: torch.Tensor = target.model(torch.tensor([text]), use_cache=False).logits[0, -1]
    return logits


def tree_logits(target: Target, cache: Any, piece: Piece, rows: Any) -> torch.Tensor:
    with torch.inference_mode():
        return target.logits(cache, piece, np.asarray(rows))


def shuffled(slots: SlotMap, random: np.random.Generator) -> SlotMap:
    """A slot map that hands out its first 192 slots in a random order."""
    slots._unused = 192
    slots._free = random.permutation(192).tolist()
    slots._take = lambda: slots._free.pop()  # type: ignore[method-assign]
    return slots


def random_tree(random: np.random.Generator, root: int, count: int, first: int = 1) -> DraftTree:
    tree = DraftTree(root)
    for node in range(first, first + count):
        parent = int(random.choice([ROOT, *range(first, node)]))
        token = next(t for t in random.permutation(VOCABULARY).tolist() if tree.child(parent, t) is None)
        tree.add(node, parent, token, 0.5)
    return tree


def node_text(text: list[int], tree: DraftTree, node: int) -> list[int]:
    return text + [tree.token(n) for n in tree.path(node)]


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
        committed = [tree.token(n) for n in tree.path(deepest)]
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
    monkeypatch.setattr(target.model.generation_config, "eos_token_id", None)
    prompt = np.random.default_rng(3).integers(3, VOCABULARY, 5).tolist()
    settings = transformers.GenerationConfig(max_new_tokens=40, do_sample=False, pad_token_id=0)
    expected = target.model.generate(torch.tensor([prompt]), generation_config=settings)[0].tolist()
    assert decode(target, prompt, 40, SamplingParams()) == expected


def decode(
    target: Target, prompt: list[int], count: int, sampling: SamplingParams, seed: int = 0
) -> list[int]:
    text = list(prompt)
    slots, tree = SlotMap(target.context_length), DraftTree(len(text))
    cache = target.open_cache(slots.capacity)
    for _ in range(count):
        piece = slots.plan(text, len(text), tree, [])
        decisions = target.forward(cache, piece, np.array([len(piece) - 1]), sampling, seed)
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
    assert small < cache.bytes <= 450 * small // 256
    before = [(layer.keys, layer.keys.clone()) for layer in cache.layers]
    piece = slots.plan(text, 400, tree, [])
    assert_same(tree_logits(llama, cache, piece, [0])[0], plain_logits(llama, text))
    others = np.setdiff1d(np.arange(before[0][1].shape[2]), piece.slots)
    for layer, (memory, old) in zip(cache.layers, before, strict=True):
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
    decisions = llama.forward(llama.open_cache(64), piece, np.arange(11, 18), sampling, 77)
    for node in range(7):
        chain = node_text(text, tree, node) if node else text
        alone = decide(plain_logits(llama, chain)[None], [len(chain)], sampling, 77)
        assert decisions.tokens[node] == alone.tokens[0]
        assert decisions.logprobs[node] == pytest.approx(alone.logprobs[0], abs=1e-4)
        assert decisions.margins[node] == pytest.approx(alone.margins[0], abs=1e-4)


def test_a_float32_target_decides_as_a_float64_one(llama: Target, tmp_path: Path) -> None:
    single = Target.load(save(tiny(dtype=torch.float32), tmp_path), dtype="float32")
    assert single.dtype == torch.float32
    double = Target.load(tmp_path, dtype="float64")
    sampling = SamplingParams(temperature=0.7)
    assert decode(single, [5, 6, 7], 30, sampling, 3) == decode(double, [5, 6, 7], 30, sampling, 3)


def test_parameters_not_offered_are_refused(llama: Target) -> None:
    with pytest.raises(EdgespecError, match="min_p"):
        decode(llama, [5, 6], 1, SamplingParams(temperature=1.0, min_p=0.1))


# Exits


class PlainExits:
    """Exit heads that hand the hidden rows to the LM head as they are."""

    def __init__(self, *layers: int) -> None:
        self.layers = layers

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def chances(self, layer: int, margins: np.ndarray, temperature: float) -> np.ndarray:  # type: ignore[type-arg]
        return (margins / (1 + margins)).astype(np.float32)


def with_exits(model: Any, *layers: int) -> Target:
    return Target(model, name="tiny", vocabulary_hash=bytes(32), exits=PlainExits(*layers))


def one_piece(length: int = 5, nodes: int = 3) -> Piece:
    text = list(range(10, 10 + length))
    tree = random_tree(np.random.default_rng(6), length, nodes)
    return SlotMap(64).plan(text, length, tree, range(1, nodes + 1))


def test_exits_report_in_order_before_deeper_layers_run() -> None:
    target = with_exits(tiny(), 3, 1)
    assert target.exit_layers == (1, 3)
    events: list[str] = []
    for index, layer in enumerate(target._decoder_layers):
        layer.register_forward_pre_hook(lambda *_, number=index + 1: events.append(f"layer {number}"))
    sampling = SamplingParams(temperature=0.8)
    target.forward(
        target.open_cache(64),
        one_piece(),
        np.arange(4, 8),
        sampling,
        1,
        lambda rows: events.append(f"exit {rows.layer}"),
    )
    assert events == ["layer 1", "exit 1", "layer 2", "layer 3", "exit 3", "layer 4"]


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "cohere"])
def test_an_exit_decides_as_the_model_cut_off_there_would(family: str) -> None:
    model = tiny(family)
    norm = model.get_decoder().norm
    exits = PlainExits(2)
    exits.rows = lambda layer, hidden: norm(hidden)  # type: ignore[method-assign]
    target = Target(model, name="tiny", vocabulary_hash=bytes(32), exits=exits)
    seen: list[ExitRows] = []
    sampling = SamplingParams(temperature=0.8, top_k=2)
    target.forward(target.open_cache(64), one_piece(), np.arange(4, 8), sampling, 9, seen.append)

    del model.get_decoder().layers[2:]
    model.config.num_hidden_layers = 2
    cut = Target(model, name="cut", vocabulary_hash=bytes(32))
    expected = cut.forward(
        cut.open_cache(64), one_piece(), np.arange(4, 8), SamplingParams(temperature=0.8), 9
    )
    assert seen[0].tokens.tolist() == expected.tokens.tolist()
    np.testing.assert_allclose(seen[0].margins, expected.margins, atol=1e-5)
    np.testing.assert_allclose(seen[0].chances, seen[0].margins / (1 + seen[0].margins))


def test_exits_are_silent_unless_asked() -> None:
    target = with_exits(tiny(), 1, 2)
    seen: list[int] = []
    piece, rows, sampling = one_piece(), np.arange(4, 8), SamplingParams()
    with_taps = target.forward(
        target.open_cache(64), piece, rows, sampling, 0, lambda e: seen.append(e.layer), [2]
    )
    assert seen == [2]
    without = target.forward(target.open_cache(64), piece, rows, sampling, 0)
    assert seen == [2]
    assert with_taps.tokens.tolist() == without.tokens.tolist()
    target.forward(target.open_cache(64), piece, rows[:0], sampling, 0, lambda e: seen.append(e.layer))
    assert seen == [2]


def test_an_error_in_a_callback_ends_the_forward_and_nothing_else() -> None:
    target = with_exits(tiny(), 1)

    def fail(rows: ExitRows) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        target.forward(target.open_cache(64), one_piece(), np.arange(4, 8), SamplingParams(), 0, fail)
    target.forward(target.open_cache(64), one_piece(), np.arange(4, 8), SamplingParams(), 0)


def test_exits_for_another_target_are_refused() -> None:
    with pytest.raises(EdgespecError, match="another target"):
        with_exits(tiny(), 2, 4)


def test_a_paced_target_holds_its_exits_and_its_end() -> None:
    reached: list[Any] = []

    class RecordingPace:
        def begin(self, rows: int) -> None:
            reached.append(("begin", rows))

        def reach(self, fraction: float) -> None:
            reached.append(fraction)

        def end(self) -> None:
            reached.append("end")

    model = tiny()
    target = Target(
        model,
        name="tiny",
        vocabulary_hash=bytes(32),
        exits=PlainExits(1, 3),
        pace=RecordingPace(),  # type: ignore[arg-type]
    )
    target.forward(
        target.open_cache(64),
        one_piece(),
        np.arange(4, 8),
        SamplingParams(),
        0,
        lambda e: reached.append(e.layer),
    )
    assert reached == [("begin", 8), 0.25, 1, 0.75, 3, "end"]


def exit_heads(folder: Path, target_folder: Path, width: int = SIZE["hidden_size"]) -> Path:
    """Random exit heads after layers 1 and 3, saved as if trained for the target in that folder."""
    random = torch.Generator().manual_seed(11)
    margins = np.linspace(0, 4, 200)
    calibration = Calibration.fit({0.8: margins}, {0.8: margins > 1})

    def head() -> ExitHead:
        down = torch.randn(5, width, generator=random)
        up = torch.randn(width, 5, generator=random)
        return ExitHead(down, up, torch.ones(width), calibration)

    ExitHeads({1: head(), 3: head()}, 1e-6, VOCABULARY, weights_sha256(target_folder)).save(folder)
    return folder


def test_exit_heads_beside_the_model_are_found_and_hint_with_calibrated_chances(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype="float64")
    assert target.exit_layers == (1, 3)
    seen: list[ExitRows] = []
    sampling = SamplingParams(temperature=0.8)
    target.forward(target.open_cache(64), one_piece(), np.arange(4, 8), sampling, 1, seen.append)
    calibration = ExitHeads.load(folder / "exits").calibration(3)
    assert [rows.layer for rows in seen] == [1, 3]
    np.testing.assert_allclose(seen[1].chances, calibration.chance(seen[1].margins, 0.8), rtol=1e-6)
    assert Target.load(folder, exits=None).exit_layers == ()


def test_exit_heads_of_another_target_are_refused(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path / "one")
    other = save(tiny("gemma3"), tmp_path / "other")
    assert "another target" in refusal(folder, exits=exit_heads(tmp_path / "of other", other))
    assert "another target" in refusal(folder, exits=exit_heads(tmp_path / "wide", folder, width=24))


# Loading


def test_what_a_target_says_about_itself(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path / "small")
    target = Target.load(str(folder))
    assert (target.layers, target.vocabulary_size, target.context_length) == (4, VOCABULARY, 512)
    assert target.end_tokens == (2,)
    assert target.target_id == "small"
    assert target.dtype == (torch.float32 if target.device.type == "cpu" else torch.bfloat16)
    assert target.exit_layers == ()
    core = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert target.vocabulary_hash == vocabulary_hash(core)


def test_several_end_tokens(tmp_path: Path) -> None:
    model = tiny()
    model.generation_config.eos_token_id = [2, 5]
    assert Target.load(save(model, tmp_path)).end_tokens == (2, 5)


SMALL = dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2)
REFUSED: dict[str, tuple[transformers.PretrainedConfig, str]] = {
    "bloom": (transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2), "ALiBi"),
    "mamba": (transformers.MambaConfig(**SMALL, state_size=4), "state-space"),
    "t5": (transformers.T5Config(vocab_size=VOCABULARY, d_model=16, num_layers=1), "encoder-decoder"),
    "gpt2": (transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2), "learned"),
    "qwen3_next": (
        transformers.Qwen3NextConfig(
            **{**SIZE, "num_hidden_layers": 2}, layer_types=["linear_attention", "full_attention"]
        ),
        "linear-attention",
    ),
    "llama": (
        transformers.LlamaConfig(
            **SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        ),
        "dynamically scaled",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_do_not_fit_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    config, reason = REFUSED[kind]
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UnsupportedModel, match=f"{kind}.*{reason}"):
        Target.load(tmp_path)


def test_a_model_without_rotations_is_refused_though_its_name_is_not_known(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, is_decoder=True
    )
    save(transformers.BertLMHeadModel(config), tmp_path)
    with pytest.raises(UnsupportedModel, match=r"BertLMHeadModel.*rotary"):
        Target.load(tmp_path)


def test_the_self_check_refuses_a_model_that_looks_past_its_mask(tmp_path: Path) -> None:
    model = tiny()
    attention = model.model.layers[2].self_attn
    attention.forward = lambda forward=attention.forward, **k: forward(**{**k, "attention_mask": None})
    with pytest.raises(UnsupportedModel, match="otherwise than its chains"):
        Target(model, name="peeking", vocabulary_hash=bytes(32))


@pytest.mark.parametrize("wrong", ["positions", "window"])
def test_the_self_check_refuses_wrong_positions_and_windows(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("mistral")
    if wrong == "positions":
        forward = model.model.rotary_emb.forward
        model.model.rotary_emb.forward = lambda x, position_ids: forward(
            x, torch.arange(position_ids.shape[1])[None]
        )
    else:
        monkeypatch.setattr("edgespec.target_masks._within", lambda piece, window: True)
    with pytest.raises(UnsupportedModel, match="otherwise than its chains"):
        Target(model, name="wrong", vocabulary_hash=bytes(32))


def test_half_precision_passes_the_self_check(tmp_path: Path) -> None:
    save(tiny(), tmp_path)
    assert Target.load(tmp_path, dtype="bfloat16").dtype == torch.bfloat16


# Bad input


def refusal(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(EdgespecError) as caught:
        Target.load(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert "no model folder" in refusal(tmp_path / "nowhere")
    assert "no model folder" in refusal("./nowhere")
    assert "no model folder" in refusal("nowhere")


def test_a_model_id_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "org/no-such-model" in refusal("org/no-such-model")


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "no weights" in refusal(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert "transformers knows" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    assert "config.json" in refusal(tmp_path)


def test_damaged_weights(tmp_path: Path) -> None:
    file = save(tiny(), tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    assert "cannot be loaded" in refusal(tmp_path)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    import safetensors.torch

    file = save(tiny(), tmp_path) / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in refusal(tmp_path)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert "tokenizer" in refusal(save(tiny(), tmp_path, tokenizer=False))


def test_nonsense_options(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    assert "dtype" in refusal(folder, dtype="int3")
    assert "device" in refusal(folder, device="abacus")
    assert "exit heads" in refusal(folder, exits=tmp_path / "nowhere")
