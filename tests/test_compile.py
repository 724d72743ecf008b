"""edgespec.compile: what it writes, what it does not do twice, what it refuses, leaving nothing behind."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_drafts import CONTEXT, TEMPLATE, compiled, save_draft

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.engines import compiling
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.engine_folder import NEUTRAL_CALIBRATION
from edgespec.engines.manifest import EngineManifest

export = pytest.importorskip("edgespec.engines.export")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder that a test may change, alone in its place."""
    return shutil.copytree(compiled() / "model", tmp_path / "model")


@pytest.fixture
def engine(tmp_path: Path, model: Path) -> Path:
    """The engine of `model`, beside it."""
    return shutil.copytree(compiled() / "engine", tmp_path / "engine")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of `model` copy the graph of its engine in place of exporting the same one again."""
    graph_file = compiled() / "engine" / "draft.onnx"
    monkeypatch.setattr(export, "export_graph", lambda graph, file: shutil.copyfile(graph_file, file))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_refuses(sentence: str, model: str | Path, out: Path, **options: Any) -> None:
    """compile raises one sentence that matches, and the folder of `out` stays as it was."""
    before = contents(out.parent)
    folders = sorted(out.parent.iterdir())
    with pytest.raises(EdgespecError, match=sentence) as caught:
        edgespec.compile(model, out, progress=False, **options)
    assert "\n" not in str(caught.value)
    assert (contents(out.parent), sorted(out.parent.iterdir())) == (before, folders)


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
    save_draft(tmp_path / "model", hidden_size=width, intermediate_size=inner)
    folder = edgespec.compile(
        tmp_path / "model", tmp_path / "engine", runtime="onnxruntime", precision="fp16", progress=False
    )
    engine = load_draft(folder)
    assert engine.manifest.precision == "fp16"
    kept = onnx.load(str(folder / "draft.onnx")).graph.initializer
    halves = sum(len(one.raw_data) // 2 for one in kept if one.data_type == onnx.TensorProto.FLOAT16)
    assert halves >= 2 * 3 * width * inner, "the matrices of both layers' MLPs"
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


# What is refused


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
    assert_refuses(r"cannot be fetched from the hub \(no route to host\)", "some-org/some-model", tmp_path / "engine")


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
