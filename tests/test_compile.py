"""edgespec.compile: what it writes, what it does not do twice, what it refuses, leaving nothing behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tiny_drafts import CONTEXT, TEMPLATE, assert_refuses, compiled, contents, save_draft

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.engines import bundled, compiling
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.engine_folder import NEUTRAL_CALIBRATION, copy_files
from edgespec.engines.manifest import BuildSettings, EngineManifest, hash_inputs
from edgespec.engines.target_tokenizer import tokenizer_folder

export = pytest.importorskip("edgespec.engines.export")


def fail_if_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: Path, **_: Any) -> None:
        raise AssertionError(f"{folder} was built again")

    monkeypatch.setattr(compiling, "read_weights", load)


# What a build writes


def test_the_engine_folder_holds_all_that_an_edge_needs() -> None:
    engine = compiled() / "engine"
    copied = {
        "tokenizer.json",
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "calibration.json",
    }
    assert set(contents(engine)) == {"draft.onnx", "manifest.json", *copied}
    manifest = EngineManifest.load(engine)
    assert (manifest.layers, manifest.kv_heads, manifest.head_dim, manifest.capacity) == (2, 2, 8, CONTEXT)
    assert (manifest.runtime, manifest.precision) == ("onnxruntime", "fp32")
    assert manifest.model == str(compiled() / "model")
    assert Tokenizer.load(engine).chat_template == TEMPLATE
    assert sorted(path.name for path in compiled().iterdir()) == ["engine", "model"]


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, 300),
        ({"max_position_embeddings": 200}, 200),
        ({"sliding_window": 128}, 128),
        ({"sliding_window": None}, 300),
        ({"sliding_window": 128, "layer_types": ["full_attention"]}, 300),
        ({"sliding_window": 128, "layer_types": ["full_attention", "sliding_attention"]}, 128),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 100}}, 300),
        ({"rope_parameters": {"rope_type": "dynamic"}, "max_position_embeddings": 250}, 250),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 100}}, 100),
    ],
)
def test_an_engine_ends_where_its_attention_would_change(config: dict[str, Any], length: int) -> None:
    from types import SimpleNamespace

    assert export.usable_length(SimpleNamespace(**{"max_position_embeddings": 400, **config}), 300) == length


def test_a_model_without_a_calibration_gets_a_neutral_one() -> None:
    calibration = load_draft(compiled() / "engine").calibration
    assert calibration.to_json() == NEUTRAL_CALIBRATION
    first = [calibration.probability(margin, 0.8, 0) for margin in (0.0, 0.5, 1.0, 5.0)]
    assert first == sorted(first)


@pytest.mark.usefixtures("quick")
def test_a_models_own_calibration_goes_with_its_engine(model: Path, tmp_path: Path) -> None:
    curve = {"margins": [0.0, 2.0], "probabilities": [0.25, 0.75]}
    calibration = {"version": 1, "temperatures": [{"temperature": 0.0, "ranks": [curve]}]}
    (model / "calibration.json").write_text(json.dumps(calibration))
    engine = load_draft(edgespec.compile(model, tmp_path / "engine", progress=False))
    assert engine.calibration.probability(1.0, 0.0) == 0.5


def test_half_precision_weights_are_kept_as_halves_and_compute_in_float32(tmp_path: Path) -> None:
    import onnx
    import torch
    from transformers import AutoModelForCausalLM

    width, inner, text = 64, 512, list(range(60))
    save_draft(tmp_path / "model", hidden_size=width, intermediate_size=inner, num_hidden_layers=1)
    folder = edgespec.compile(
        tmp_path / "model", tmp_path / "engine", runtime="onnxruntime", precision="fp16", progress=False
    )
    engine = load_draft(folder)
    assert engine.manifest.precision == "fp16"
    kept = onnx.load(str(folder / "draft.onnx")).graph.initializer
    halves = sum(len(one.raw_data) // 2 for one in kept if one.data_type == onnx.TensorProto.FLOAT16)
    assert halves >= 3 * width * inner, "the matrices of its MLP"
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    logits = model(torch.tensor([text])).logits[0].detach().numpy()
    best, scores = engine.run(SlotMap(512).plan(text, 60, DraftTree(60), []), None, None, 1.0)
    difference = np.abs(scores - np.take_along_axis(logits, best.astype(np.int64), axis=1)).max()
    assert 0 < difference < 0.02 * np.abs(scores).max()


@pytest.mark.usefixtures("quick")
def test_progress_goes_to_the_terminal_and_standard_output_stays_empty(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edgespec.compile(model, tmp_path / "engine")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err and "Warning" not in captured.err


# What is not done twice


def test_the_same_inputs_are_not_built_twice(
    engine: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_if_built(monkeypatch)
    before = contents(engine)
    assert edgespec.compile(model, engine, progress=False) == engine
    assert contents(engine) == before


@pytest.mark.usefixtures("quick")
def test_without_a_place_the_engine_goes_to_the_users_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = edgespec.compile(model, progress=False)
    assert folder.parent == tmp_path / "cache" / "edgespec" / "engines"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    fail_if_built(monkeypatch)
    assert edgespec.compile(str(model), progress=False) == folder


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damaged", [True, False])
def test_a_damaged_engine_is_built_again_and_so_is_any_by_force(
    engine: Path, model: Path, damaged: bool
) -> None:
    if damaged:
        (engine / "draft.onnx").write_bytes(b"")
    (engine / "surplus").write_bytes(b"")
    edgespec.compile(model, engine, force=not damaged, progress=False)
    load_draft(engine)
    assert not (engine / "surplus").exists()
    assert sorted(path.name for path in engine.parent.iterdir()) == ["engine", "model"]


@pytest.mark.parametrize("options", [{"max_len": 100}, {"precision": "fp16"}, {}])
def test_another_engine_is_not_replaced_unasked(engine: Path, model: Path, options: dict[str, Any]) -> None:
    if not options:
        (model / "tokenizer_config.json").write_text("{}")
    assert_refuses("holds another engine", model, engine, **options)


# The bundled draft


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, "engine"),
        ({"removed": ["draft"]}, "engine"),
        ({"retrained": True}, "draft/compiled"),
        ({"removed": ["engine"]}, "draft/compiled"),
        ({"removed": ["draft", "engine"]}, None),
    ],
)
def test_the_bundled_engine_is_that_of_the_draft_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], found: str | None
) -> None:
    draft, engine = tmp_path / "draft", tmp_path / "engine"
    shutil.copytree(compiled() / "model", draft)
    shutil.copytree(compiled() / "engine", engine)
    replace(EngineManifest.read(engine), input_hash=hash_inputs(draft, BuildSettings())).save(engine)
    for name, value in {"FOLDER": tmp_path, "DRAFT": draft, "ENGINE": engine}.items():
        monkeypatch.setattr(bundled, f"PAIR_{name}", value)
    monkeypatch.setattr(bundled, "compile", lambda model, **_: model / "compiled")
    if change.get("retrained"):
        (draft / "calibration.json").write_text("{}")
    for name in change.get("removed", []):
        shutil.rmtree(tmp_path / name)
    if found is None:
        with pytest.raises(EdgespecError, match="there is no bundled draft"):
            bundled.bundled_engine()
    else:
        assert bundled.bundled_engine() == tmp_path / found


def test_the_engine_takes_the_targets_tokenizer_where_it_encodes_otherwise(tmp_path: Path) -> None:
    draft = save_draft(tmp_path / "draft")
    target = shutil.copytree(draft, tmp_path / "target")
    assert tokenizer_folder(draft, target) == draft
    core = tokenizers.Tokenizer.from_file(str(target / "tokenizer.json"))
    core.post_processor = tokenizers.processors.TemplateProcessing(single="w1 $A", special_tokens=[("w1", 1)])
    core.save(str(target / "tokenizer.json"))
    for place in (target, target / "tokenizer.json"):
        assert tokenizer_folder(draft, place) == target
    (tmp_path / "engine").mkdir()
    copy_files(draft, tmp_path / "engine", target)
    assert Tokenizer.load(tmp_path / "engine").encode("w5") == [1, 5]
    assert Tokenizer.load(draft).encode("w5") == [5]
