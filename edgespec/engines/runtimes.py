"""The runtimes that can run a draft engine: which of them this machine has, and how each opens an engine.

A runtime's own library is imported when an engine is opened with it, so that an edge loads nothing of the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.cuda_driver import driver, first_gpu
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.engines.manifest import EngineManifest, PlanRecord
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.draft_shape import EyesShape
from edgespec.tensorrt_engines.tensorrt_api import MODULES, build_capabilities, installed, load_api
from edgespec.tensorrt_engines.tensorrt_eyes import TensorRTEyes
from edgespec.tensorrt_engines.tensorrt_runner import TensorRTRunner

RUNTIMES = ("onnxruntime", *MODULES)
"""Every runtime that an engine may name; "auto" chooses among them."""


class Runner(Protocol):
    """A draft's graph with a cache of its own. Not thread-safe."""

    def twin(self) -> Runner:
        """The same graph and weights with another, empty cache. Twins run on one thread, or one at a time."""

    def reset(self) -> None:
        """Forget the cache."""

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Run the piece's R rows, put their keys and values into its slots, choose behind the rows `decide`.

        noise: float32 [P, V]. noise_rows: int32 [R], the row of `noise` that each of the R rows uses. None: no noise.
        decide: int32 [D], rows of the piece, any number of them. None: all rows, in order.
        Returns int32 [D, K] and float32 [D, K]: the best tokens by logit * inverse_temperature + noise, and these
        scores, best first. ONNX Runtime gives ties to the lower id; TensorRT does not promise that.
        """


class Eyes(Protocol):
    """A draft's vision encoder. Not thread-safe."""

    shape: EyesShape

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: uint8 [height, width, 3], red, green and blue. Returns float32 [rows, features]."""


def choose_runtime(runtime: str) -> str:
    """The runtime to compile for: `runtime`, or for "auto" the fastest that this machine has. Raises EdgespecError."""
    if runtime == "auto":
        return _fastest()
    if runtime not in RUNTIMES:
        raise EdgespecError(
            f"there is no runtime {runtime!r}: choose 'auto' or one of {', '.join(RUNTIMES)}."
        )
    return runtime


def open_runner(runtime: str, folder: Path, manifest: EngineManifest, threads: int) -> Runner:
    """Open an engine folder; runtime "auto" is the one it was compiled for. Raises EdgespecError."""
    chosen = manifest.runtime if runtime == "auto" else choose_runtime(runtime)
    if chosen == "onnxruntime":
        from edgespec.engines.onnx_runner import OnnxRunner

        return OnnxRunner(folder, manifest, threads)
    return _open_plan(chosen, folder, manifest)


def open_eyes(runtime: str, folder: Path, manifest: EngineManifest, threads: int) -> Eyes | None:
    """The vision encoder of an engine folder, by the runtime of its runner; None: the draft reads text only. Raises
    EdgespecError."""
    if manifest.eyes is None:
        return None
    chosen = manifest.runtime if runtime == "auto" else choose_runtime(runtime)
    if chosen == "onnxruntime":
        from edgespec.engines.onnx_eyes import OnnxEyes

        return OnnxEyes(folder, manifest, manifest.eyes, threads)
    plan, command = _plan(chosen, folder, manifest), manifest.plan_command(folder, chosen)
    if not plan.vision_file:
        raise EdgespecError(
            f"the {chosen} plan in {folder} lacks the vision encoder: run `{command}` on this device."
        )
    content, memory = (folder / plan.vision_file).read_bytes(), DeviceMemory(driver())
    return TensorRTEyes(content, manifest.eyes, load_api(chosen), memory, command)


def _open_plan(runtime: str, folder: Path, manifest: EngineManifest) -> TensorRTRunner:
    plan = _plan(runtime, folder, manifest)
    content, memory = (folder / plan.file).read_bytes(), DeviceMemory(driver())
    return TensorRTRunner(
        content, manifest, load_api(runtime), memory, manifest.plan_command(folder, runtime)
    )


def _plan(runtime: str, folder: Path, manifest: EngineManifest) -> PlanRecord:
    """The plan of this runtime, version and GPU. Raises EdgespecError where there is none."""
    command = manifest.plan_command(folder, runtime)
    gpu = first_gpu()
    if gpu is None:
        raise EdgespecError(
            f"the engine in {folder} runs with {runtime}, and this machine has no NVIDIA GPU that its driver shows: "
            "use --runtime onnxruntime, or run it on its device."
        )
    plans = {plan.compute_capability: plan for plan in manifest.plans if plan.runtime == runtime}
    plan = plans.get(gpu.compute_capability)
    if plan is not None:
        api = load_api(runtime)
        if plan.version == api.__version__:
            return plan
        problem = f"is of {runtime} {plan.version}, and this device has {api.__version__}"
    elif plans:
        problem = f"is for compute capability {', '.join(plans)}, and this GPU ({gpu.name}) is {gpu.compute_capability}"
    else:
        problem = "is not built yet"
    raise EdgespecError(f"the {runtime} plan in {folder} {problem}: run `{command}` on this device.")


def _fastest() -> str:
    gpu = first_gpu()
    if gpu is None:
        return "onnxruntime"
    if installed("tensorrt"):
        return "tensorrt"
    if installed("tensorrt-rtx") and gpu.compute_capability in build_capabilities(load_api("tensorrt-rtx")):
        return "tensorrt-rtx"
    return "onnxruntime"
