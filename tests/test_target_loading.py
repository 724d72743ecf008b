"""Loading a target: what it says about itself, which models are refused, and bad input."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from tiny_models import LATENT, SIZE, VOCABULARY, refusal, save, tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.target_identity import same_target
from edgespec.core.tokenizer import vocabulary_hash
from edgespec.model import loading, memory
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.support import UnsupportedModel
from edgespec.model.target import Target


def test_what_a_target_says_about_itself(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path / "small")
    target = Target.load(str(folder))
    assert (target.layers, target.vocabulary_size, target.context_length) == (4, VOCABULARY, 512)
    assert target.end_tokens == (2,)
    name, _, digest = target.target_id.partition("@")
    assert (name, len(digest)) == ("small", 32)
    assert target.model.dtype == (torch.float32 if target.model.device.type == "cpu" else torch.bfloat16)
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
        Target(LoadedModel(model, "peeking", bytes(32)))


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
        monkeypatch.setattr("edgespec.model.masks._within", lambda piece, window: True)
    with pytest.raises(UnsupportedModel, match="otherwise than its chains"):
        Target(LoadedModel(model, "wrong", bytes(32)))


def test_the_self_check_refuses_a_model_that_expands_the_whole_pool_in_each_forward() -> None:
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(LATENT, dtype=torch.float32).eval()
    Target(LoadedModel(model, "selected", bytes(32)))
    model.set_attn_implementation(SLOT_ATTENTION)
    with pytest.raises(UnsupportedModel, match="all sessions in every forward"):
        Target(LoadedModel(model, "expanding", bytes(32)))


def test_half_precision_passes_the_self_check(tmp_path: Path) -> None:
    save(tiny(), tmp_path)
    assert Target.load(tmp_path, dtype="bfloat16").model.dtype == torch.bfloat16


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", "./nowhere", "nowhere"):
        assert "no model folder" in refusal(path)


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


def test_targets_are_the_same_by_their_weights_and_type_not_by_their_name(tmp_path: Path) -> None:
    one = Target.load(save(tiny(), tmp_path / "one"), dtype="float32").target_id
    assert same_target(one, Target.load(save(tiny(), tmp_path / "two"), dtype="float32").target_id)
    assert not same_target(one, Target.load(tmp_path / "one", dtype="bfloat16").target_id)
    assert not same_target(
        one, Target.load(save(tiny("qwen2"), tmp_path / "three"), dtype="float32").target_id
    )


def test_nonsense_options(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    assert "dtype" in refusal(folder, dtype="int3")
    assert "device" in refusal(folder, device="abacus")
    assert "exit heads" in refusal(folder, exits=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("method", "library"), [("bitsandbytes", "bitsandbytes"), ("gptq", "optimum"), ("awq", "gptqmodel")]
)
def test_a_quantised_model_says_which_library_it_needs(
    method: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tiny(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setitem(sys.modules, library, None)
    sentence = rf"quantised \({method}\), which needs .*pip install .*{library}"
    assert re.search(sentence, refusal(folder))


def test_a_model_that_does_not_fit_says_how_much_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tiny(dtype=torch.float32), tmp_path)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1.5 * weights)
    loading.load_model(folder, "tiny", torch.float32, torch.device("cpu"))
    with pytest.raises(
        EdgespecError, match=r"tiny does not fit: .* in float64, .* GiB are missing"
    ) as caught:
        loading.load_model(folder, "tiny", torch.float64, torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_code_in_a_models_folder_runs_only_where_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    folder = save(tiny(dtype=torch.float32), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "homemade.HomemadeConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (folder / "homemade.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nraise SystemError('it ran')\n"
    )
    assert "--trust-remote-code" in refusal(folder)
    assert not ran.exists()
    assert "it ran" in refusal(folder, trust_remote_code=True)
    assert ran.exists()
