"""ONNX -> TensorRT plan: the second stage of a build. Needs the runtime alone; neither torch nor onnx.

A plan serves one compute capability and one version. TensorRT builds for the GPU it runs on; TensorRT-RTX builds for
any of the capabilities that it knows, on a machine without a GPU too. Two optimization profiles: a few rows, which is
decoding, and many, which is prefill.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.engines.manifest import EngineManifest, PlanRecord
from edgespec.tensorrt_engines.buckets import buckets
from edgespec.tensorrt_engines.cuda_driver import Gpu
from edgespec.tensorrt_engines.tensorrt_api import (
    Complaints,
    build_capabilities,
    capability_of,
    load_api,
    network_flags,
)

DECODE_ROWS = 16
PREFILL_ROWS = 128
"""Rows of a run at most, by optimization profile; the runtime splits what is longer."""

DECIDING_ROWS = 32
"""Deciding rows, and rows of noise, of a run at most."""

USUAL_ROWS = 4
"""Deciding rows of a run that a plan is tuned for: what `auto` drafts at once where further rows are cheap."""

WORKSPACE_SHARE = 4
"""A build may use a fourth of the device's memory as scratch."""


@dataclass(frozen=True)
class Range:
    """The least, the usual and the most of one open dimension."""

    least: int
    usual: int
    most: int


def build_plan(
    runtime: str, graph_file: Path, manifest: EngineManifest, compute_capability: str, gpu: Gpu | None
) -> bytes:
    """The plan of `graph_file`, for a compute capability such as "8.7".

    gpu: the one in this machine. Raises EdgespecError where this machine cannot build such a plan, and where TensorRT
    refuses the graph.
    """
    api = load_api(runtime)
    _check_buildable(api, runtime, compute_capability, gpu)
    complaints = Complaints(api)
    builder = api.Builder(complaints.logger)
    flags, strongly_typed = network_flags(api)
    network = builder.create_network(flags)
    _parse(api, network, complaints, graph_file)
    config = builder.create_builder_config()
    if not strongly_typed and manifest.precision == "fp16":
        config.set_flag(api.BuilderFlag.FP16)
    if build_capabilities(api):
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability_of(api, compute_capability), 0)
    if gpu is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, gpu.memory_bytes // WORKSPACE_SHARE)
    for rows in (DECODE_ROWS, PREFILL_ROWS):
        config.add_optimization_profile(_profile(builder, network, rows, manifest))
    with _enough_memory():
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgespecError(
            f"{runtime} {api.__version__} cannot build the plan ({complaints.first()}): free memory on the device, or "
            "run the engine with --runtime onnxruntime."
        )
    return bytes(plan)


def plan_record(runtime: str, compute_capability: str) -> PlanRecord:
    """What to record of a plan that is built here, and which file it goes to."""
    name = f"{runtime}-sm{compute_capability.replace('.', '')}"
    version = str(load_api(runtime).__version__)
    return PlanRecord(f"{name}.plan", runtime, version, compute_capability)


def _check_buildable(api: Any, runtime: str, compute_capability: str, gpu: Gpu | None) -> None:
    offered = build_capabilities(api)
    if offered:
        if compute_capability not in offered:
            raise EdgespecError(
                f"{runtime} {api.__version__} builds for compute capability {', '.join(offered)}, not for "
                f"{compute_capability}: use TensorRT on that device (edgespec compile ENGINE_DIR --runtime tensorrt)."
            )
    elif gpu is None or gpu.compute_capability != compute_capability:
        here = "has no GPU" if gpu is None else f"has a GPU of {gpu.compute_capability}"
        raise EdgespecError(
            f"TensorRT builds a plan only on the device that runs it, and this machine {here}, "
            f"not of {compute_capability}: copy the engine folder there and run "
            "`edgespec compile ENGINE_DIR --runtime tensorrt`."
        )


def _parse(api: Any, network: Any, complaints: Complaints, graph_file: Path) -> None:
    parser = api.OnnxParser(network, complaints.logger)
    if not parser.parse_from_file(str(graph_file)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        reason = " ".join(reasons[0].split())[:200].rstrip(". ") if reasons else complaints.first()
        raise EdgespecError(
            f"TensorRT {api.__version__} does not read {graph_file.name} ({reason}): export it again with "
            "`edgespec compile MODEL --out ENGINE_DIR --runtime tensorrt --force`."
        )


def _profile(builder: Any, network: Any, rows: int, manifest: EngineManifest) -> Any:
    """An optimization profile for runs of up to so many rows; the dimensions are those of draft_graph.py."""
    widths = buckets(manifest.capacity)
    r = Range(1, USUAL_ROWS if rows == DECODE_ROWS else rows, rows)
    d = Range(1, USUAL_ROWS, min(DECIDING_ROWS, rows))
    w = Range(widths[0], widths[len(widths) // 2], widths[-1])
    open_dimensions: dict[str, list[Range]] = {
        "tokens": [r],
        "positions": [r],
        "cached": [r, w],
        "among": [r, r],
        "decide": [d],
        "noise": [d],
        "noise_rows": [d],
    }
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = list(tensor.shape)
        ranges = iter([w] if tensor.name.startswith("cache_") else open_dimensions.get(tensor.name, []))
        dimensions = [next(ranges) if size < 0 else Range(size, size, size) for size in shape]
        if -1 in shape:
            profile.set_shape(
                tensor.name,
                tuple(dimension.least for dimension in dimensions),
                tuple(dimension.usual for dimension in dimensions),
                tuple(dimension.most for dimension in dimensions),
            )
    return profile


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise EdgespecError(
            "the plan's build ran out of memory: end other programs on the device, or add swap space."
        ) from None
