"""The runtimes that can run a draft engine, by name. One module each; this is the list and the way in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgespec.errors import EdgespecError

if TYPE_CHECKING:
    from edgespec.calibration import Calibration
    from edgespec.draft import DraftEngine
    from edgespec.manifest import EngineManifest

RUNTIMES = ("onnxruntime", "tensorrt")
"""Every runtime an engine may name; "auto" is none of them but a choice among them."""


def choose_runtime(runtime: str) -> str:
    """The runtime to compile for: `runtime`, or for "auto" what this machine has. Raises EdgespecError."""
    if runtime == "auto":
        return "onnxruntime"
    if runtime == "tensorrt":
        raise EdgespecError(
            "this build of edgespec has no TensorRT runtime yet: use runtime 'onnxruntime', or 'auto'."
        )
    if runtime not in RUNTIMES:
        raise EdgespecError(
            f"there is no runtime {runtime!r}: choose 'auto' or one of {', '.join(RUNTIMES)}."
        )
    return runtime


def open_runtime(
    runtime: str, folder: Path, manifest: EngineManifest, calibration: Calibration, threads: int
) -> DraftEngine:
    """Open an engine folder; runtime "auto" is the one it was compiled for. Raises EdgespecError."""
    choose_runtime(manifest.runtime if runtime == "auto" else runtime)
    from edgespec.tensorrt_engines.onnx_runtime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(folder, manifest, calibration, threads)
