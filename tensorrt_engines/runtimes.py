"""The runtimes that can run a draft engine, by name: which one this machine has, and the way into each.

A runtime is imported when an engine is opened with it, so that an edge loads nothing of the others.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from edgespec.core.errors import EdgespecError
from edgespec.tensorrt_engines.cuda_driver import first_gpu
from edgespec.tensorrt_engines.tensorrt_api import MODULES, build_capabilities, installed, load_api

if TYPE_CHECKING:
    from edgespec.core.calibration import Calibration
    from edgespec.engines.draft_engine import DraftEngine
    from edgespec.engines.manifest import EngineManifest

RUNTIMES = ("onnxruntime", *MODULES)
"""Every runtime an engine may name; "auto" is none of them but a choice among them."""


def choose_runtime(runtime: str) -> str:
    """The runtime to compile for: `runtime`, or for "auto" what this machine has. Raises EdgespecError."""
    if runtime == "auto":
        return _found()
    if runtime not in RUNTIMES:
        raise EdgespecError(
            f"there is no runtime {runtime!r}: choose 'auto' or one of {', '.join(RUNTIMES)}."
        )
    return runtime


def open_runtime(
    runtime: str, folder: Path, manifest: EngineManifest, calibration: Calibration, threads: int
) -> DraftEngine:
    """Open an engine folder; runtime "auto" is the one it was compiled for. Raises EdgespecError."""
    chosen = manifest.runtime if runtime == "auto" else choose_runtime(runtime)
    if chosen == "onnxruntime":
        from edgespec.tensorrt_engines.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, manifest, calibration, threads)
    return _open_plan(chosen, folder, manifest, calibration)


def _open_plan(runtime: str, folder: Path, manifest: EngineManifest, calibration: Calibration) -> DraftEngine:
    """The plan of this runtime, version and GPU; a sentence that names the command where there is none."""
    command = manifest.plan_command(folder, runtime)
    gpu = first_gpu()
    if gpu is None:
        raise EdgespecError(
            f"the engine in {folder} runs with {runtime}, and this machine has no NVIDIA GPU that its driver shows: "
            "use --runtime onnxruntime, or run it on its device."
        )
    plans = [plan for plan in manifest.plans if plan.runtime == runtime]
    if not plans:
        raise EdgespecError(
            f"the engine in {folder} has no {runtime} plan yet: run `{command}` on this device."
        )
    fitting = [plan for plan in plans if plan.compute_capability == gpu.compute_capability]
    if not fitting:
        others = ", ".join(plan.compute_capability for plan in plans)
        raise EdgespecError(
            f"the {runtime} plan in {folder} is for compute capability {others}, and this GPU ({gpu.name}) is "
            f"{gpu.compute_capability}: run `{command}` on this device."
        )
    api = load_api(runtime)
    plan = fitting[0]
    if plan.version != api.__version__:
        raise EdgespecError(
            f"the plan in {folder} is of {runtime} {plan.version}, and this device has {api.__version__}: "
            f"run `{command}` on this device."
        )
    from edgespec.tensorrt_engines.device_memory import open_device_memory
    from edgespec.tensorrt_engines.tensorrt_runtime import TensorRTEngine

    return TensorRTEngine(
        folder, manifest, calibration, (folder / plan.file).read_bytes(), api, open_device_memory()
    )


def _found() -> str:
    """The fastest runtime that this machine has all the parts of."""
    gpu = first_gpu()
    if gpu is None or not any(importlib.util.find_spec(name) for name in ("pycuda", "torch")):
        return "onnxruntime"
    if installed("tensorrt"):
        return "tensorrt"
    if installed("tensorrt-rtx") and gpu.compute_capability in build_capabilities(load_api("tensorrt-rtx")):
        return "tensorrt-rtx"
    return "onnxruntime"
