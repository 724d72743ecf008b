"""How a draft is compiled: what was asked for, then what the device's profile says, then what suits the runtime."""

from __future__ import annotations

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.engines.manifest import BuildSettings
from edgespec.tensorrt_engines.device_profiles import DeviceProfile
from edgespec.tensorrt_engines.tensorrt_api import MODULES

PRECISIONS = ("fp32", "fp16", "int8")


def choose_settings(
    runtime: str, precision: str, max_len: int | None, device: DeviceProfile | None
) -> BuildSettings:
    """Raises EdgespecError for settings that no engine can have."""
    if precision not in ("auto", *PRECISIONS):
        raise EdgespecError(
            f"there is no precision {precision!r}: choose 'auto' or one of {', '.join(PRECISIONS)}."
        )
    if precision == "auto":
        if device is not None and device.runtime == runtime:
            precision = device.precision
        else:
            precision = "fp16" if runtime in MODULES else "fp32"
    if max_len is None:
        max_len = BuildSettings.max_len if device is None else device.max_len
    if precision == "int8" and runtime in MODULES:
        raise EdgespecError(
            "int8 weights are for ONNX Runtime: use --precision fp16, or --runtime onnxruntime."
        )
    if max_len < SLOT_BUCKET:
        raise EdgespecError(f"max_len {max_len} is too short for a text: give at least {SLOT_BUCKET}.")
    return BuildSettings(runtime, precision, max_len)


def assumptions(device: DeviceProfile, runtime: str, precision: str, max_len: int) -> str:
    """A sentence on what an engine for this device is built for."""
    own = device.compute_capability if runtime == device.runtime else ""
    capability = f", compute capability {own}" if own else ""
    return (
        f"for {device.description} this takes {runtime}{capability}, {precision} weights, texts of up to {max_len} "
        f"tokens and {device.memory_gb} GB of memory: from data sheets, not measured."
    )


def check_device_memory(needed: int, device: DeviceProfile | None) -> None:
    """Raises EdgespecError where `needed` bytes of weights and cache are more than half of a device's memory."""
    if device is not None and needed > device.memory_gb * 2**30 // 2:
        raise EdgespecError(
            f"the draft needs {needed / 2**30:.1f} GiB for weights and cache, too much for {device.description} with "
            f"{device.memory_gb} GB: use a smaller draft, or a smaller max_len."
        )
