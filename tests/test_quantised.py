"""Weights that are quantised while they are loaded, or were before: texts with drafts are those of the quantised model.

Needs edgespec[quantised]; without it only what refuses runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.cli.engine import Model
from edgespec.core.errors import EdgespecError
from edgespec.core.target_identity import same_target

pytestmark = pytest.mark.needs_torch

LIBRARY = {"nf4": "bitsandbytes", "int8": "torchao", "fp8": "torchao"}
TOKENS = 8


def saved(folder: Path) -> Path:
    """A tiny Llama in float32, wide enough for nf4's blocks of 64 weights."""
    import torch
    import transformers
    from tiny_models import SIZE, save

    torch.manual_seed(0)
    size = {**SIZE, "hidden_size": 128, "intermediate_size": 128, "head_dim": 32}
    return save(transformers.LlamaForCausalLM(transformers.LlamaConfig(**size)).float(), folder)


def loaded(folder: Path, quantize: str | None = None) -> Any:
    from edgespec.model.target import Target

    return Target.load(folder, exits=None, kv_memory="16MiB", quantize=quantize)


def check_texts(target: Any) -> None:
    """Texts with drafts and company are the plain ones."""
    from other_engines import differing, jobs, play

    asked = jobs([[1, *range(10 + 7 * i, 24 + 7 * i)] for i in range(3)])
    plain = [play(target, [job], TOKENS)[0] for job in asked]
    assert all(len(text) == TOKENS for text in plain)
    assert differing(play(target, asked, TOKENS, plain), plain) == []


def requires(method: str) -> None:
    for library in (LIBRARY.get(method, method), "accelerate"):
        pytest.importorskip(library)


@pytest.mark.parametrize("method", LIBRARY)
def test_drafted_texts_are_plain_ones_of_the_target_quantised_at_load(method: str, tmp_path: Path) -> None:
    requires(method)
    quantised, whole = loaded(saved(tmp_path), method), loaded(tmp_path)
    check_texts(quantised)
    assert not same_target(quantised.target_id, whole.target_id)
    down = [one.model.module.model.layers[0].mlp.down_proj.weight for one in (quantised, whole)]
    assert type(down[0].data) is not type(down[1].data) or down[0].dtype != down[1].dtype


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_drafted_texts_are_plain_ones_of_a_folder_that_was_quantised_before(
    method: str, tmp_path: Path
) -> None:
    requires(method)
    import torch
    import transformers

    from edgespec.model.quantised import quantiser

    model = transformers.AutoModelForCausalLM.from_pretrained(
        saved(tmp_path / "whole"),
        quantization_config=quantiser(method, torch.float32, False, "tiny"),
        dtype=torch.float32,
        device_map="cpu",
    )
    model.save_pretrained(tmp_path / "quantised")
    (tmp_path / "whole" / "tokenizer.json").rename(tmp_path / "quantised" / "tokenizer.json")
    check_texts(loaded(tmp_path / "quantised"))
    with pytest.raises(EdgespecError, match="quantised already: leave --quantize out"):
        loaded(tmp_path / "quantised", method)


def packed(folder: Path, bits: int, group_size: int | None) -> Path:
    """A tiny Llama whose layers compressed-tensors has packed to whole numbers of `bits` bits."""
    import torch
    import transformers
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    whole = saved(folder / "whole")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    strategy = {"strategy": "group", "group_size": group_size} if group_size else {"strategy": "channel"}
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=True, **strategy)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    apply_quantization_config(model, QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"]))
    for layer in (one for one in model.modules() if hasattr(one, "weight_scale")):
        groups = layer.weight.data.unflatten(1, (-1, group_size or layer.weight.shape[1]))
        scale = groups.abs().amax(-1) / (2 ** (bits - 1) - 1)
        layer.weight_scale.data = scale.reshape(layer.weight_scale.shape)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder / "packed")
    compressor.update_config(str(folder / "packed"))
    (whole / "tokenizer.json").rename(folder / "packed" / "tokenizer.json")
    return folder / "packed"


@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (8, None)])
def test_drafted_texts_are_plain_ones_of_a_folder_that_compressed_tensors_packed(
    bits: int, group_size: int | None, tmp_path: Path
) -> None:
    requires("compressed_tensors")
    check_texts(loaded(packed(tmp_path, bits, group_size)))


@pytest.mark.parametrize(("method", "dtype"), [("gptq", "float32"), ("awq", "bfloat16")])
def test_drafted_texts_are_plain_ones_of_a_folder_that_gptqmodel_quantised(
    method: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)  # gptqmodel wants more threads than two cores get
    monkeypatch.chdir(tmp_path)  # it writes logs where it runs
    requires("gptqmodel")
    pytest.importorskip("optimum")
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    from edgespec.model.target import Target

    whole, quantised = saved(tmp_path / "whole"), tmp_path / "quantised"
    special = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "t0", "eos_token": "t2"}
    (whole / "tokenizer_config.json").write_text(json.dumps(special))
    own = {"quant_method": "awq", "format": "gemm"} if method == "awq" else {}
    config = QuantizeConfig(bits=4, group_size=32, **own)
    model = GPTQModel.load(str(whole), config, device="cpu", dtype=getattr(torch, dtype))
    texts = [torch.randint(3, 97, (1, 64)) for _ in range(8)]
    model.quantize([{"input_ids": text, "attention_mask": torch.ones_like(text)} for text in texts])
    model.save(str(quantised))
    (whole / "tokenizer.json").rename(quantised / "tokenizer.json")
    check_texts(Target.load(quantised, exits=None, kv_memory="16MiB", dtype=dtype))


def test_a_packed_output_head_is_refused_by_name() -> None:
    import torch

    from edgespec.model.support import UnsupportedModel, check_modules

    head = torch.nn.Linear(2, 2)
    del head.weight
    model = torch.nn.ModuleDict({"rotary": torch.nn.Identity(), "head": head})
    model.config = SimpleNamespace(rotary_dim=2)  # type: ignore[assignment]
    model.get_output_embeddings = lambda: head  # type: ignore[assignment]
    with pytest.raises(UnsupportedModel, match="quantised output head"):
        check_modules(model, "tiny")


@pytest.mark.parametrize("method", LIBRARY)
def test_a_missing_library_is_named(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "edgespec.model.quantised.find_spec", lambda name: None if name == LIBRARY[method] else found(name)
    )
    with pytest.raises(EdgespecError, match=rf"--quantize {method}.*pip install .*{LIBRARY[method]}"):
        loaded(saved(tmp_path), method)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tensor_parallel": True}, "leave --tensor-parallel out"),
        ({"engine": "llamacpp"}, "does not have --quantize"),
        ({"engine": "vllm"}, "does not have --quantize"),
    ],
)
def test_what_does_not_go_with_it_is_refused_by_name(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        Model(quantize="nf4", **options).check()


def test_float64_has_no_quantised_weights(tmp_path: Path) -> None:
    import torch

    from edgespec.model.quantised import quantiser

    with pytest.raises(EdgespecError, match="give --dtype float32 or bfloat16"):
        quantiser("nf4", torch.float64, False, "tiny")
