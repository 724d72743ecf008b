"""A machine with a GPU, a stand-in for TensorRT and its memory, for the tests of the TensorRT runtime."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_api
from tiny_drafts import VOCABULARY

from edgespec.core.cuda_driver import CudaDriver, Gpu
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
from edgespec.engines import runtimes
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import EngineManifest, PlanRecord
from edgespec.tensorrt_engines import contexts
from edgespec.tensorrt_engines.plan import DECIDING_ROWS, DECODE_ROWS, PREFILL_ROWS

ORIN = Gpu("Orin", "8.7", 8 << 30)
TEXT: list[int] = np.random.default_rng(0).integers(0, VOCABULARY, 400).tolist()


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
        self.cuda = FakeCuda()
        self.api = fake_api((DECODE_ROWS, PREFILL_ROWS), (DECODE_ROWS, DECIDING_ROWS), self.cuda)
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


def decode(engine: DraftEngine, steps: int) -> None:
    slots = SlotMap(engine.capacity)
    for length in range(1, steps + 1):
        engine.run(slots.plan(TEXT, length, DraftTree(400), []), None, None, 1.0)
