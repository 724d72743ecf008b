"""The TensorRT runtime on a stand-in for TensorRT: the same answers as ONNX Runtime's, and the calls that it makes.

No GPU is needed: the stand-in runs the graph on the CPU at the addresses that it is given. That the real bindings
have every name which is used is checked against `tensorrt_rtx` where it is installed.
"""

from __future__ import annotations

import gc
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_api
from numpy.typing import NDArray
from tiny_drafts import CONTEXT, VOCABULARY, compiled, moved

from edgespec.core.cuda_driver import CudaDriver, CudaError, Gpu
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines import check, runtimes
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import EngineManifest, PlanRecord
from edgespec.tensorrt_engines import contexts
from edgespec.tensorrt_engines.contexts import CAPTURE_AFTER, CAPTURED_SHAPES
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, DECODE_ROWS, PREFILL_ROWS

pytest.importorskip("torch")

ORIN = Gpu("Orin", "8.7", 8 << 30)
TEXT: list[int] = np.random.default_rng(0).integers(0, VOCABULARY, 400).tolist()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine for TensorRT, without a plan; float32, so that no near-tie differs."""
    return for_tensorrt(tmp_path_factory.mktemp("exported"), compiled())


def for_tensorrt(folder: Path, made: Path) -> Path:
    """A copy of a compiled engine whose manifest names TensorRT."""
    engine = shutil.copytree(made / "engine", folder / "engine")
    replace(EngineManifest.read(engine), runtime="tensorrt").save(engine)
    return engine


class Captured:
    """In place of a CUDA graph: does the captured work again when it is launched."""

    launches = 0

    def __init__(self, stream: int, enqueue: Any) -> None:
        assert stream == fake_tensorrt.STREAM
        self.enqueue = enqueue

    def launch(self) -> None:
        Captured.launches += 1
        self.enqueue()


class Device:
    """A machine with a GPU, a fake TensorRT and its memory; `engine(folder)` opens an engine on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = fake_api((DECODE_ROWS, PREFILL_ROWS), (DECODE_ROWS, DECIDING_ROWS))
        self.cuda = FakeCuda()
        monkeypatch.setattr(runtimes, "first_gpu", lambda: ORIN)
        monkeypatch.setattr(runtimes, "load_api", lambda runtime: self.api)
        monkeypatch.setattr(runtimes, "driver", lambda: CudaDriver(self.cuda))
        monkeypatch.setattr(contexts, "CapturedGraph", Captured)
        monkeypatch.setattr(Captured, "launches", 0)

    def engine(self, folder: Path, **record: str) -> DraftEngine:
        """Open the engine with a plan of its graph; record: what its record says otherwise than this device."""
        plan = {"file": "draft.onnx", "runtime": "tensorrt", "version": self.api.__version__, **record}
        plans = (PlanRecord(**{"compute_capability": ORIN.compute_capability, **plan}),)
        replace(EngineManifest.read(folder), plans=plans).save(folder)
        return load_draft(folder)

    @property
    def contexts(self) -> list[Any]:
        return list(self.api.Runtime.opened[-1].contexts)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def assert_same(
    found: tuple[NDArray[np.int32], NDArray[np.float32]],
    expected: tuple[NDArray[np.int32], NDArray[np.float32]],
) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-4)


def tree_of(text: list[int], nodes: int) -> DraftTree:
    tree = DraftTree(len(text))
    for node in range(1, nodes + 1):
        tree.add(node, ROOT if node < 3 else node - 2, TEXT[-node], 0.5)
    return tree


def test_texts_trees_and_noise_give_what_onnx_runtime_gives(exported: Path, device: Device) -> None:
    engines = [device.engine(exported), load_draft(exported, "onnxruntime")]
    noise = np.random.default_rng(1).gumbel(size=(3, VOCABULARY)).astype(np.float32)
    results = []
    for engine in engines:
        slots = SlotMap(engine.capacity)
        tree = tree_of(TEXT[:90], 8)
        first = slots.plan(TEXT, 60, tree, [])
        second = slots.plan(TEXT[:90], 90, tree, [1, 2, 3])
        third = slots.plan(TEXT[:90], 90, tree, [4, 5, 6, 7, 8])
        found = [engine.run(first, None, None, 1.0, np.zeros(0, dtype=np.int32))]
        rows = np.arange(len(second), dtype=np.int32) % 3
        found.append(engine.run(second, noise, rows, 1.25, np.array([32, 30, 32], dtype=np.int32)))
        found.append(engine.run(third, None, None, 1.0))
        results.append(found)
    assert results[0][0][0].shape == (0, 4)
    for fake, real in zip(*results, strict=True):
        assert_same(fake, real)


def test_halves_are_kept_and_multiplied_as_halves(tmp_path: Path, device: Device) -> None:
    folder = for_tensorrt(tmp_path, compiled(runtime="tensorrt-rtx"))
    found = []
    for engine in (device.engine(folder), load_draft(folder, "onnxruntime")):
        slots = SlotMap(engine.capacity)
        found.append(
            [engine.run(slots.plan(TEXT, length, DraftTree(400), []), None, None, 1.0) for length in (9, 10)]
        )
    assert all(context.engine.inputs["cache_0"] == np.float16 for context in device.contexts)
    for fake, real in zip(*found, strict=True):
        assert_same(fake, real)


def test_a_piece_with_more_rows_than_a_plan_takes_is_cut_and_means_the_same(
    exported: Path, device: Device
) -> None:
    noise = np.random.default_rng(2).gumbel(size=(300, VOCABULARY)).astype(np.float32)
    rows = np.arange(300, dtype=np.int32)[::-1].copy()
    few = np.array([299, 5, 140, 5], dtype=np.int32)
    last = np.array([299], dtype=np.int32)
    results = []
    for engine in (device.engine(exported), load_draft(exported, "onnxruntime")):
        slots = SlotMap(engine.capacity)
        piece = slots.plan(TEXT[:300], 300, DraftTree(300), [])
        every = engine.run(piece, noise, rows, 1.0)
        engine.reset()
        results.append([every])
        for decide in (few, last):
            engine.reset()
            results[-1].append(engine.run(piece, noise, rows, 1.0, decide))
    for fake, real in zip(*results, strict=True):
        assert_same(fake, real)


def test_scattered_slots_are_placed_and_found_again(exported: Path, device: Device) -> None:
    order = np.random.default_rng(3).permutation(CONTEXT).astype(np.int32)
    results = []
    for scattered in (True, False):
        engine = device.engine(exported)
        slots = SlotMap(engine.capacity)
        found = []
        for length in (40, 41, 60):
            piece = slots.plan(TEXT, length, DraftTree(400), [])
            found.append(engine.run(moved(piece, order) if scattered else piece, None, None, 1.0))
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert_same(one, other)


def test_reset_forgets_the_cache(exported: Path, device: Device) -> None:
    engine = device.engine(exported)
    first = engine.run(SlotMap(CONTEXT).plan(TEXT, 20, DraftTree(400), []), None, None, 1.0)
    engine.reset()
    assert_same(engine.run(SlotMap(CONTEXT).plan(TEXT, 20, DraftTree(400), []), None, None, 1.0), first)


def decode(engine: DraftEngine, steps: int) -> None:
    slots = SlotMap(engine.capacity)
    for length in range(1, steps + 1):
        engine.run(slots.plan(TEXT, length, DraftTree(400), []), None, None, 1.0)


def test_a_shape_that_comes_often_is_captured_once_and_launched(exported: Path, device: Device) -> None:
    decode(device.engine(exported), 30)
    assert device.cuda.activated == 0, "the thread keeps the GPU after a run"
    common, own = device.contexts[:2], device.contexts[2:]
    assert len(own) == 1 and Captured.launches == 30 - CAPTURE_AFTER
    assert [context.runs for context in common] == [CAPTURE_AFTER - 1, 0]


def test_no_more_shapes_than_a_few_are_kept_captured(exported: Path, device: Device) -> None:
    engine = device.engine(exported)
    reference = load_draft(exported, "onnxruntime")
    for rows in range(1, DECODE_ROWS + 1):
        for _ in range(CAPTURE_AFTER + 1):
            piece = SlotMap(CONTEXT).plan(TEXT, rows, DraftTree(400), [])
            assert_same(engine.run(piece, None, None, 1.0), reference.run(piece, None, None, 1.0))
    assert len(engine.runner._contexts._own) == CAPTURED_SHAPES  # type: ignore[attr-defined]


def test_what_cannot_be_captured_is_enqueued_each_time(
    exported: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stream: int, enqueue: Any) -> None:
        raise CudaError("cuStreamEndCapture failed with CUDA error 901")

    monkeypatch.setattr(contexts, "CapturedGraph", refuse)
    decode(device.engine(exported), 10)
    assert [context.runs for context in device.contexts] == [CAPTURE_AFTER - 1, 0, 10 - CAPTURE_AFTER + 1]


# What is refused


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
    device.api = fake_api((DECODE_ROWS,), (DECIDING_ROWS,))
    with pytest.raises(EdgespecError, match="has no profile 1 for this run: build it again"):
        device.engine(exported)


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
    own = {"limits", "opened", "session", "inputs", "outputs", "contexts", "profiles"}
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
