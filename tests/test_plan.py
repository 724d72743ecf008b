"""ONNX -> plan, by the real TensorRT-RTX, on a machine that need not have a GPU; and what the stage refuses.

What a plan computes is not tested here: no GPU has run one yet.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_drafts import CONTEXT, VICUNA, compiled, save_draft

import edgespec
from edgespec.core.cuda_driver import Gpu, first_gpu
from edgespec.core.errors import EdgespecError
from edgespec.engines import plan_stage, runtimes
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.manifest import EngineManifest, hash_files
from edgespec.engines.runtimes import RUNTIMES, choose_runtime
from edgespec.tensorrt_engines import plan
from edgespec.tensorrt_engines.device_profiles import load_profile, profile_names
from edgespec.tensorrt_engines.plan import PlanTarget
from edgespec.tensorrt_engines.tensorrt_api import MODULES, ErrorLog

export = pytest.importorskip("edgespec.engines.export")
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx has no wheel here, or is not installed",
)

LEAST_BYTES = 130_000_000
"""Of Vicuna-68M's plan: its weights as halves."""

LAYER = re.compile(r"^Name: (.+?), LayerType: (\w+), (.*)$", re.M)
COMPILED = {"gemm", "kgen", "runtime_fusion", "shape_call", "signal", "wait"}
"""Types of layers that TensorRT's compiler makes of a graph that it takes whole; others copy or change formats."""

MATRICES = 4
"""Of a decoder layer: projections, attention's output, gate and up, the output of the MLP."""

LAUNCHES, LAUNCHES_A_LAYER = 10, 20
"""At most, of a run: of all but the draft's layers, and of each of these. The graph has over 50 operators a layer."""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine folder for TensorRT-RTX without a plan."""
    return shutil.copytree(compiled(runtime="tensorrt-rtx") / "engine", tmp_path / "engine")


@pytest.fixture
def build_log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What TensorRT-RTX logs of the plans that are built: with each plan, its layers and their types."""
    import tensorrt_rtx as real

    messages: list[str] = []

    class Builder(real.Builder):  # type: ignore[misc]
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.profiling_verbosity = real.ProfilingVerbosity.DETAILED
            return config

    class Log(ErrorLog):
        def __init__(self, api: Any) -> None:
            super().__init__(api)
            keep = self.logger.log
            type(self.logger).log = lambda logger, severity, message: (
                messages.append(message),
                keep(severity, message),
            )

    api = SimpleNamespace(**{**vars(real), "Builder": Builder})
    monkeypatch.setattr(plan, "load_api", lambda runtime: api)
    monkeypatch.setattr(plan, "ErrorLog", Log)
    return messages


@needs_rtx
@pytest.mark.timeout(600)
@pytest.mark.parametrize("capability", ["8.0", "8.6"])
def test_tensorrt_rtx_builds_the_plan_without_a_gpu(
    tmp_path: Path, capability: str, build_log: list[str]
) -> None:
    import tensorrt_rtx

    engine = compiled(VICUNA, runtime="tensorrt-rtx") / "engine"
    target = PlanTarget("tensorrt-rtx", capability, None)
    folder = plan_stage.add_plan(engine, tmp_path / "planned", target, False, lambda stage: None)
    manifest = EngineManifest.load(folder)
    (plan,) = manifest.plans
    assert (plan.version, plan.compute_capability) == (tensorrt_rtx.__version__, capability)
    assert (folder / plan.file).stat().st_size > LEAST_BYTES
    assert manifest.precision == "fp16" and not EngineManifest.load(engine).plans
    assert_multiplies_halves_in_few_launches("\n".join(build_log), manifest.layers)


def assert_multiplies_halves_in_few_launches(log: str, decoder_layers: int) -> None:
    """For both profiles: no layer outside the compiled graph, every product of halves, operators fused."""
    layers = LAYER.findall(log)
    assert {kind for _, kind, _ in layers} <= COMPILED
    products = [(name, text) for name, kind, text in layers if kind == "gemm" or "_Fc" in name]
    for name, text in products:
        assert text.partition("Outputs:")[0].count("Datatype: Half") >= 2, f"{name} multiplies wider numbers"
    weights = re.findall(r"\.weight_constant([A-Za-z]+\d*)_", "".join(text for _, text in products))
    assert set(weights) == {"Half"} and len(weights) >= 2 * MATRICES * decoder_layers
    launches = [kind for _, kind, _ in layers if kind not in ("shape_call", "signal", "wait")]
    assert 2 * decoder_layers < len(launches) <= 2 * (LAUNCHES + LAUNCHES_A_LAYER * decoder_layers)


@needs_rtx
def test_a_device_profile_builds_the_plan_of_an_engine_folder_in_place_and_once(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgespec.compile(engine, target_device="rtx-30", progress=False) == engine
    first = EngineManifest.load(engine)
    monkeypatch.setattr(plan_stage, "build_plan", None)
    edgespec.compile(engine, target_device="rtx-30", progress=False)
    assert EngineManifest.load(engine) == first


@needs_rtx
def test_one_folder_holds_the_plans_of_several_devices(engine: Path) -> None:
    for device in ("rtx-30", "rtx-40", "rtx-30"):
        edgespec.compile(engine, target_device=device, force=True, progress=False)
    assert {plan.compute_capability for plan in EngineManifest.load(engine).plans} == {"8.6", "8.9"}
    assert len(list(engine.glob("*.plan"))) == 2


@needs_rtx
def test_the_second_stage_imports_neither_torch_nor_onnx(engine: Path) -> None:
    program = """
import sys
from edgespec.engines.compiling import compile
compile(sys.argv[1], target_device="rtx-30", progress=False)
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "onnx", "onnxscript"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(engine)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n" and EngineManifest.load(engine).plans


@needs_rtx
def test_a_failed_build_leaves_the_folder_as_it_was(engine: Path) -> None:
    (engine / "draft.onnx").write_bytes(b"no graph")
    manifest = replace(EngineManifest.read(engine), files=hash_files(engine))
    manifest.save(engine)
    with pytest.raises(
        EdgespecError, match=r"does not read draft.onnx \(.*\): export it again with `edgespec compile"
    ):
        edgespec.compile(engine, target_device="rtx-30", progress=False)
    assert EngineManifest.load(engine) == manifest
    assert [path.name for path in engine.parent.iterdir()] == ["engine"]


@needs_rtx
def test_a_capability_that_tensorrt_rtx_does_not_know(engine: Path) -> None:
    target = PlanTarget("tensorrt-rtx", "8.7", None)
    with pytest.raises(
        EdgespecError, match=r"builds for compute capability 7.5, .*, not for 8.7: use TensorRT on"
    ):
        plan_stage.add_plan(engine, engine, target, False, lambda stage: None)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_without_tensorrt_the_sentence_says_where_it_comes_from(engine: Path) -> None:
    with pytest.raises(EdgespecError, match=r"tensorrt cannot be imported here .*comes with JetPack 6"):
        edgespec.compile(engine, target_device="orin-nano-8gb", progress=False)


def test_without_a_gpu_a_plan_needs_a_device_to_be_named(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "first_gpu", lambda: None)
    with pytest.raises(EdgespecError, match="run this on the device, or name one with --target-device"):
        edgespec.compile(engine, runtime="tensorrt-rtx", progress=False)


def test_a_draft_too_large_for_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.DraftGraph, "device_bytes", lambda graph, slots: 3 << 30)
    model = save_draft(tmp_path / "model")
    with pytest.raises(
        EdgespecError, match=r"needs 3.0 GiB .*too much for Jetson Orin Nano 4 GB.*use a smaller draft"
    ):
        edgespec.compile(model, tmp_path / "engine", target_device="orin-nano-4gb", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_engine_without_a_plan_names_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = compiled(runtime="tensorrt-rtx")
    graph_file = exported / "engine" / "draft.onnx"
    monkeypatch.setattr(export, "export_graph", lambda graph, file: shutil.copyfile(graph_file, file))
    folder = edgespec.compile(exported / "model", tmp_path / "engine", target_device="orin-nx")
    said = capsys.readouterr().err.replace("\n", " ")
    assert (
        "for Jetson Orin NX" in said and "compute capability 8.7, fp16 weights, texts of up to 2048" in said
    )
    assert "run `edgespec compile ENGINE_DIR --runtime tensorrt` there" in said
    manifest = EngineManifest.load(folder)
    assert (manifest.runtime, manifest.precision, manifest.plans) == ("tensorrt", "fp16", ())
    assert load_draft(folder, "onnxruntime").capacity == CONTEXT


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_sound(name: str) -> None:
    profile = load_profile(name)
    assert profile.runtime in RUNTIMES and profile.precision in ("fp32", "fp16", "int8")
    assert (profile.runtime in MODULES) == bool(profile.compute_capability)
    assert profile.memory_gb > 0 and profile.max_len >= 64


@pytest.mark.parametrize(
    ("gpu", "there", "chosen"),
    [
        (None, {"tensorrt"}, "onnxruntime"),
        (Gpu("Orin", "8.7", 1), {"tensorrt"}, "tensorrt"),
        (Gpu("Orin", "8.7", 1), set(), "onnxruntime"),
    ],
)
def test_auto_takes_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, there: set[str], chosen: str
) -> None:
    monkeypatch.setattr(runtimes, "first_gpu", lambda: gpu)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: name if name in there else None)
    assert choose_runtime("auto") == chosen


def test_a_gpu_is_described_or_there_is_none() -> None:
    gpu = first_gpu()
    assert gpu is None or (gpu.name and gpu.memory_bytes > 0 and 3 <= float(gpu.compute_capability) < 100)
