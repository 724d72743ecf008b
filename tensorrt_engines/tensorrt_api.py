"""TensorRT and TensorRT-RTX: one API in two modules, and the differences between them and between versions.

`tensorrt` (10.0 to 11) comes with JetPack on a Jetson, or with NVIDIA's own packages; `tensorrt_rtx` comes from PyPI.
Both have Builder, OnnxParser, Runtime and the named-tensor calls that plan.py and tensorrt_runner.py use.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from edgespec.core.errors import EdgespecError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Runtime -> its module."""

INSTALLATION = {
    "tensorrt": "on a Jetson it comes with JetPack 6.1 (apt install nvidia-jetpack; a virtual environment needs "
    "--system-site-packages)",
    "tensorrt-rtx": "pip install 'edgespec[tensorrt-rtx]'",
}

OLDEST = (10, 0)
"""Of `tensorrt`: the first where several contexts share a profile. JetPack 6.1 has 10.3; 6.0 has 8.6."""


def installed(runtime: str) -> bool:
    """Whether the runtime's module is there; it is not imported."""
    return importlib.util.find_spec(MODULES[runtime]) is not None


def load_api(runtime: str) -> Any:
    """The module of "tensorrt" or "tensorrt-rtx". Raises EdgespecError."""
    try:
        api: Any = importlib.import_module(MODULES[runtime])
    except (ImportError, OSError, RuntimeError) as error:
        raise EdgespecError(
            f"{MODULES[runtime]} cannot be imported here ({error}): {INSTALLATION[runtime]}."
        ) from None
    if runtime == "tensorrt" and _numbers(api.__version__) < OLDEST:
        raise EdgespecError(
            f"TensorRT {api.__version__} is too old, edgespec needs 10.0 or newer: flash JetPack 6.1 or newer."
        )
    return api


def network_flags(api: Any) -> int:
    """The flags of create_network for a network whose tensors have exactly the types that the ONNX file gives them.

    Versions without this flag know no other networks.
    """
    flags = api.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def build_capabilities(api: Any) -> list[str]:
    """The compute capabilities that this module builds for without such a GPU, as "8.6"; none for TensorRT."""
    if not hasattr(api, "ComputeCapability"):
        return []
    names = [name for name in dir(api.ComputeCapability) if name.startswith("SM")]
    return sorted((f"{name[2:-1]}.{name[-1]}" for name in names), key=_numbers)


class ErrorLog:
    """A logger for TensorRT that keeps its errors; the first one goes into our own error message."""

    def __init__(self, api: Any) -> None:
        self.errors: list[str] = []
        errors, severities = self.errors, api.ILogger.Severity

        class Logger(api.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                api.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (severities.ERROR, severities.INTERNAL_ERROR):
                    errors.append(" ".join(message.split()))

        self.logger = Logger()

    def first(self) -> str:
        """The first error, shortened."""
        return self.errors[0][:200].rstrip(". ") if self.errors else "it gives no reason"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
