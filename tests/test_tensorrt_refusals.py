"""The TensorRT runtime refuses plans and machines that do not fit, and its check finds a plan that is wrong.

That the real bindings have every name of the stand-in is checked against `tensorrt_rtx` where it is installed.
"""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path
from typing import Any

import fake_tensorrt
import pytest
from fake_tensorrt import FakeCuda, fake_api
from tensorrt_rig import Device, decode, for_tensorrt
from tiny_drafts import compiled

from edgespec.core.errors import EdgespecError
from edgespec.engines import check, runtimes
from edgespec.engines.draft_engine import load_draft
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, DECODE_ROWS

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine for TensorRT, without a plan; float32, so that no near-tie differs."""
    return for_tensorrt(tmp_path_factory.mktemp("exported"), compiled())


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (
            {"compute_capability": "8.6"},
            r"is for compute capability 8.6, and this GPU \(Orin\) is 8.7: run `edgespec",
        ),
        ({"version": "8.6.2"}, "is of tensorrt 8.6.2, and this device has 10.3.0: run `edgespec compile"),
        (
            {"runtime": "tensorrt-rtx"},
            "the tensorrt plan in .* is not built yet: run `edgespec compile .* --runtime tensorrt`",
        ),
    ],
)
def test_a_plan_from_elsewhere(exported: Path, device: Device, record: dict[str, str], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        device.engine(exported, **record)


def test_a_plan_that_tensorrt_does_not_open(
    exported: Path, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"")
    with pytest.raises(
        EdgespecError, match=r"cannot be opened \(the plan is empty\): build it again with `edgespec"
    ):
        device.engine(exported)


def test_a_plan_that_lacks_a_profile_is_refused(exported: Path, device: Device) -> None:
    device.api = fake_api((DECODE_ROWS,), (DECIDING_ROWS,), device.cuda)
    with pytest.raises(EdgespecError, match="has no profile 1 for this run: build it again"):
        device.engine(exported)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("create_execution_context", "no memory left for the plan's scratch: end other programs"),
        ("set_input_shape", r"the plan does not take \w+ of shape .*: build it again"),
        ("set_tensor_address", r"the plan has no tensor \w+: build it again"),
        ("execute_async_v3", "the plan did not run: build it again on this device"),
    ],
)
def test_a_call_that_fails_ends_in_a_sentence(
    exported: Path, device: Device, call: str, sentence: str
) -> None:
    device.api.Runtime.failing.add(call)
    with pytest.raises(EdgespecError, match=sentence):
        decode(device.engine(exported), 1)
    assert device.cuda.activated == 0, "the thread keeps the GPU after the failure"


def test_a_machine_without_a_gpu(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "first_gpu", lambda: None)
    with pytest.raises(EdgespecError, match=r"no NVIDIA GPU .*use --runtime onnxruntime"):
        load_draft(exported)


def test_memory_is_given_back_and_the_lack_of_it_told(
    exported: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = device.engine(exported)
    decode(engine, 3)
    alone = len(device.cuda.allocated)
    twin = engine.twin()
    decode(twin, 3)
    assert len(device.cuda.allocated) > alone > 0
    del twin
    gc.collect()
    assert len(device.cuda.allocated) == alone
    del engine
    gc.collect()
    assert not device.cuda.allocated
    monkeypatch.setattr(FakeCuda, "free_bytes", 1 << 10)
    with pytest.raises(EdgespecError, match=r"the GPU has less than .* MiB left"):
        device.engine(exported)


# The real bindings


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx has no wheel here, or is not installed",
)
def test_the_real_bindings_have_every_name_that_the_stand_in_has() -> None:
    import tensorrt_rtx as real  # type: ignore[import-untyped]

    pairs = {
        fake_tensorrt.Context: real.IExecutionContext,
        fake_tensorrt.Engine: real.ICudaEngine,
        fake_tensorrt.Runtime: real.Runtime,
    }
    own = {"limits", "fails"}
    for fake, genuine in pairs.items():
        names = {name for name in vars(fake) if not name.startswith("_")} - own
        assert names and names <= set(dir(genuine))
    assert {"ILogger", "nptype", "__version__", "CudaGraphStrategy"} <= set(dir(real))
    assert hasattr(real.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE")
    assert hasattr(real.IRuntimeConfig, "cuda_graph_strategy") and hasattr(
        real.ICudaEngine, "create_runtime_config"
    )


# The check of a plan on its device


@pytest.mark.parametrize("sound", [True, False])
def test_the_check_tells_a_sound_plan_from_a_wrong_one(
    exported: Path,
    device: Device,
    sound: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check, "TEXTS", 1)
    device.engine(exported)
    copy_lines = FakeCuda.cuMemcpy2DAsync_v2

    def misplaced(cuda: FakeCuda, copy: Any, stream: Any) -> int:
        copy._obj.height -= 1
        return copy_lines(cuda, copy, stream)

    if not sound:
        monkeypatch.setattr(FakeCuda, "cuMemcpy2DAsync_v2", misplaced)
    assert check.main(exported) == (0 if sound else 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("sound" if sound else "NOT SOUND")
    assert ("100.00% of" in lines[1]) is sound


def test_an_engine_for_the_cpu_is_not_checked() -> None:
    with pytest.raises(EdgespecError, match="is for ONNX Runtime and has no plan"):
        check.main(compiled() / "engine")
