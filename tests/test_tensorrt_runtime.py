"""The TensorRT runtime on a stand-in for TensorRT: the same answers as ONNX Runtime's, and the calls that it makes.

No GPU is needed: the stand-in runs the graph on the CPU at the addresses that it is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tensorrt_rig import TEXT, Captured, Device, decode, for_tensorrt
from tiny_drafts import CONTEXT, VOCABULARY, compiled, moved

from edgespec.core.cuda_driver import CudaError
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.draft_engine import load_draft
from edgespec.tensorrt_engines import contexts
from edgespec.tensorrt_engines.contexts import CAPTURE_AFTER, CAPTURED_SHAPES
from edgespec.tensorrt_engines.plan import DECODE_ROWS

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine for TensorRT, without a plan; float32, so that no near-tie differs."""
    return for_tensorrt(tmp_path_factory.mktemp("exported"), compiled())


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
