"""edgespec.compile: what it refuses, in one sentence, leaving nothing behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_drafts import assert_refuses, contents, save_draft

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.engines.seeing import picture_size

export = pytest.importorskip("edgespec.engines.export")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target_device": "toaster"}, "no device profile 'toaster': choose one of agx-orin, cpu, "),
        ({"runtime": "abacus"}, "there is no runtime 'abacus'"),
        ({"precision": "fp3"}, "there is no precision 'fp3'"),
        ({"max_len": 0}, "max_len 0 is too short"),
        ({"max_len": -5, "force": True}, "max_len -5 is too short"),
    ],
)
def test_nonsense_settings(model: Path, tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    assert_refuses(sentence, model, tmp_path / "engine", **options)


def test_a_tokenizer_that_the_target_does_not_share(model: Path, engine: Path, tmp_path: Path) -> None:
    file = model / "tokenizer.json"
    target = tmp_path / "target.json"
    target.write_text(file.read_text().replace('"w7"', '"seven"'))
    sentence = r"the draft's tokenizer \(101 tokens\) is not the target's \(101 tokens in .*target.json\): use a draft"
    assert_refuses(sentence, model, tmp_path / "new", target_tokenizer=target)
    assert_refuses(sentence, model, engine, target_tokenizer=target)
    assert_refuses("there is no folder", model, engine, target_tokenizer=tmp_path / "nowhere")


def test_a_tokenizer_that_the_target_shares(model: Path, engine: Path, tmp_path: Path) -> None:
    target = shutil.copytree(model, tmp_path / "target")
    (target / "tokenizer_config.json").write_text('{"model_max_length": 5}')
    assert edgespec.compile(model, engine, target_tokenizer=target, progress=False) == engine


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("nowhere", "there is no model folder"),
        ("no model at all", "there is no model folder"),
        (".", "holds no config.json"),
        ("engine", "is an engine already"),
    ],
)
def test_what_is_no_model(
    engine: Path, tmp_path: Path, model: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(engine.parent)
    assert_refuses(sentence, model, tmp_path / "another")


def test_a_model_id_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("no route to host.\nmore words")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert_refuses(
        r"cannot be fetched from the hub \(no route to host\)", "some-org/some-model", tmp_path / "engine"
    )


WEIGHTS = "model.safetensors"


def _without_one_weight(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / WEIGHTS)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda model: (model / WEIGHTS).unlink(), "holds no weights"),
        (
            lambda model: (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:1000]),
            "cannot be loaded",
        ),
        (_without_one_weight, "do not fill the model: .*up_proj"),
        (lambda model: (model / "tokenizer.json").unlink(), "holds no tokenizer.json"),
        (lambda model: (model / "tokenizer.json").write_text("{"), "is not a tokenizer that can be read"),
        (lambda model: (model / "calibration.json").write_text("{}"), "calibration.json cannot be read"),
        (lambda model: (model / "config.json").write_text('{"model_type": "abacus"}'), "cannot be loaded"),
    ],
)
def test_a_damaged_model(
    model: Path, tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(model)
    assert_refuses(sentence, model, tmp_path / "engine")


@pytest.mark.parametrize(
    ("stem", "changes", "sentence"),
    [
        ("GPTNeoX", {}, "GPTNeoXForCausalLM cannot be compiled .*use a draft of the Llama family"),
        (
            "Granite",
            {"embedding_multiplier": 3.0},
            "GraniteForCausalLM cannot .* do not compute as Llama's do",
        ),
        ("Mixtral", {"num_local_experts": 2}, "MixtralForCausalLM cannot be compiled"),
        ("Olmo2", {"num_key_value_heads": 2}, "Olmo2ForCausalLM cannot be compiled"),
    ],
)
def test_an_architecture_unlike_llamas(
    tmp_path: Path, stem: str, changes: dict[str, Any], sentence: str
) -> None:
    save_draft(tmp_path / "model", stem, **changes)
    assert_refuses(sentence, tmp_path / "model", tmp_path / "engine")


def test_a_place_that_holds_something_else(model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("one")
    assert_refuses("exists and is no engine", model, tmp_path / "thesis", force=True)
    assert_refuses("exists and is no engine", model, tmp_path / "thesis" / "chapter")


def test_a_place_that_cannot_be(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgespecError, match="cannot be written to"):
        edgespec.compile(model, tmp_path / "file" / "engine", progress=False)


def test_missing_libraries_are_named_with_the_extra_that_brings_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    absent = ("torch", "onnxscript")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in absent else found(name, *rest)
    )
    assert_refuses(r"needs torch, onnxscript: pip install 'edgespec\[compile\]'", model, tmp_path / "engine")


NO_MEMORY = RuntimeError(
    "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
)


@pytest.mark.parametrize(
    ("error", "raised", "sentence"),
    [
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (RuntimeError("a defect"), RuntimeError, "a defect"),
        (MemoryError(), EdgespecError, "ran out of memory: .* compile the draft on a larger machine"),
        (NO_MEMORY, EdgespecError, "ran out of memory: .* compile the draft on a larger machine"),
    ],
)
def test_an_interrupted_build_leaves_the_engine_that_was_there(
    engine: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    sentence: str,
) -> None:
    def half_way(graph: object, file: Path) -> None:
        file.write_bytes(b"half a graph")
        raise error

    monkeypatch.setattr(export, "export_graph", half_way)
    before = contents(engine.parent)
    with pytest.raises(raised, match=sentence):
        edgespec.compile(model, engine, force=True, progress=False)
    assert contents(engine.parent) == before
    assert sorted(path.name for path in engine.parent.iterdir()) == ["engine", "model"]


def _raise(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        try:
            raise error
        except Exception:
            raise RuntimeError("Failed to decompose the graph") from None

    return fail


def test_too_little_memory_is_recognised_in_what_libraries_make_of_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import transformers

    sentence = "ran out of memory: end other programs, or compile the draft on a larger machine"
    monkeypatch.setattr(torch.onnx, "export", _raise(NO_MEMORY))
    assert_refuses(sentence, model, tmp_path / "engine")
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", _raise(NO_MEMORY))
    assert_refuses(sentence, model, tmp_path / "engine")


def test_an_export_that_fails_otherwise_names_the_versions_to_use(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.onnx, "export", _raise(ValueError("a dimension")))
    assert_refuses("cannot export the draft's graph .*: use the versions", model, tmp_path / "engine")


@pytest.mark.usefixtures("quick")
def test_an_engine_that_computes_something_else_is_not_saved(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / WEIGHTS)
    weights["model.norm.weight"] *= 1.01
    save_file(weights, model / WEIGHTS, {"format": "pt"})
    assert_refuses("does not compute what the model does", model, tmp_path / "engine")


@pytest.mark.parametrize(
    ("family", "name"),
    [("qwen3_vl", "Qwen3-VL"), ("llava", "LLaVA"), ("gemma3", "Gemma 3"), ("paligemma", "paligemma")],
)
def test_drafts_of_other_families_are_refused_by_name(tmp_path: Path, family: str, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "vision_config": {}}))
    with pytest.raises(EdgespecError, match=f"of the family {name}, whose pictures no draft reads yet"):
        picture_size(tmp_path, None)


def test_sizes_of_pictures_that_a_draft_cannot_take(tmp_path: Path) -> None:
    seeing = {"model_type": "qwen2_vl", "vision_config": {"patch_size": 14}}
    (tmp_path / "config.json").write_text(json.dumps(seeing))
    assert picture_size(tmp_path, None) == (224, 224)
    assert picture_size(tmp_path, "84x56") == (56, 84)
    for wrong in ("", "84", "84x", "0x56", "85x56", "56x99999999", "99988x9996", "-28x28", "28x28\n"):
        with pytest.raises(EdgespecError, match="in multiples of 28 pixels"):
            picture_size(tmp_path, wrong)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(EdgespecError, match="picture_size is chosen already"):
        edgespec.compile(tmp_path, runtime="tensorrt-rtx", picture_size="84x56", progress=False)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert picture_size(tmp_path, None) is None
    with pytest.raises(EdgespecError, match="reads text only: leave picture_size out"):
        picture_size(tmp_path, "84x56")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl", "vision_config": {"patch_size": "14"}}')
    with pytest.raises(EdgespecError, match="is damaged"):
        picture_size(tmp_path, None)
