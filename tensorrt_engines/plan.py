"""ONNX -> TensorRT plan (TensorRT's word for a serialized engine). Needs the runtime alone; neither torch nor onnx.

A plan serves one compute capability and one version. TensorRT builds for the GPU it runs on; TensorRT-RTX builds for
any capability that it knows, on a machine without a GPU too. A plan has two optimization profiles: a few rows, for
decoding, and many, for prefill.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.core.cuda_driver import Gpu, first_gpu
from edgespec.core.errors import EdgespecError
from edgespec.tensorrt_engines.draft_shape import DraftShape
from edgespec.tensorrt_engines.tensorrt_api import (
    ErrorLog,
    build_capabilities,
    installed,
    load_api,
    network_flags,
)

DECODE_ROWS = 16
PREFILL_ROWS = 128
"""Rows of a run at most, by optimization profile; the runtime splits longer pieces."""

DECIDING_ROWS = 32
"""Deciding rows, and rows of noise, of a run at most."""

USUAL_ROWS = 4
"""Rows that the decoding profile is tuned for: what `auto` drafts at once where further rows are cheap."""

WORKSPACE_SHARE = 4
"""A build may use a fourth of the device's memory as scratch."""


@dataclass(frozen=True)
class PlanTarget:
    """What a plan is built for: a runtime, and a compute capability such as "8.7". gpu: the one in this machine."""

    runtime: str
    compute_capability: str
    gpu: Gpu | None


def plan_target(runtime: str, compute_capability: str) -> PlanTarget:
    """For this capability, or if it is "" for the GPU in this machine. Raises EdgespecError where there is none."""
    gpu = first_gpu()
    if not compute_capability and gpu is None:
        raise EdgespecError(
            f"a {runtime} plan is built for one GPU, and this machine has none: run this on the device, "
            "or name one with --target-device."
        )
    return PlanTarget(runtime, compute_capability or (gpu.compute_capability if gpu else ""), gpu)


def buildable_target(runtime: str, compute_capability: str) -> PlanTarget | None:
    """As `plan_target`, or None where this machine cannot build such a plan."""
    gpu = first_gpu()
    if not installed(runtime) or not (compute_capability or gpu):
        return None
    target = plan_target(runtime, compute_capability)
    return target if _obstacle(load_api(runtime), target) is None else None


def build_plan(target: PlanTarget, graph_file: Path, draft: DraftShape) -> bytes:
    """The plan of an ONNX file, whose types it keeps.

    Raises EdgespecError where this machine cannot build such a plan, and where TensorRT refuses the graph.
    """
    api, gpu = load_api(target.runtime), target.gpu
    obstacle = _obstacle(api, target)
    if obstacle is not None:
        raise EdgespecError(obstacle)
    log = ErrorLog(api)
    builder = api.Builder(log.logger)
    network = builder.create_network(network_flags(api))
    _parse(api, network, log, graph_file)
    config = builder.create_builder_config()
    if build_capabilities(api):
        config.num_compute_capabilities = 1
        name = "SM" + target.compute_capability.replace(".", "")
        config.set_compute_capability(getattr(api.ComputeCapability, name), 0)
    if gpu is not None:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, gpu.memory_bytes // WORKSPACE_SHARE)
    for rows in (DECODE_ROWS, PREFILL_ROWS):
        config.add_optimization_profile(_profile(builder, network, rows, draft.buckets))
    try:
        plan = builder.build_serialized_network(network, config)
    except MemoryError:
        raise EdgespecError(
            "the plan's build ran out of memory: end other programs on the device, or add swap space."
        ) from None
    if plan is None:
        raise EdgespecError(
            f"{target.runtime} {api.__version__} cannot build the plan ({log.first()}): free memory on the device, or "
            "run the engine with --runtime onnxruntime."
        )
    return bytes(plan)


def _obstacle(api: Any, target: PlanTarget) -> str | None:
    """Why this machine cannot build such a plan; None where it can."""
    wanted, offered = target.compute_capability, build_capabilities(api)
    if offered:
        if wanted in offered:
            return None
        return (
            f"{target.runtime} {api.__version__} builds for compute capability {', '.join(offered)}, not for "
            f"{wanted}: use TensorRT on that device (edgespec compile ENGINE_DIR --runtime tensorrt)."
        )
    if target.gpu is not None and target.gpu.compute_capability == wanted:
        return None
    here = "has no GPU" if target.gpu is None else f"has a GPU of {target.gpu.compute_capability}"
    return (
        f"TensorRT builds a plan only on the device that runs it, and this machine {here}, not of {wanted}: "
        "copy the engine folder there and run `edgespec compile ENGINE_DIR --runtime tensorrt`."
    )


def _parse(api: Any, network: Any, log: ErrorLog, graph_file: Path) -> None:
    parser = api.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(graph_file)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        reason = " ".join(reasons[0].split())[:200].rstrip(". ") if reasons else log.first()
        raise EdgespecError(
            f"TensorRT {api.__version__} does not read {graph_file.name} ({reason}): export it again with "
            "`edgespec compile MODEL --out ENGINE_DIR --runtime tensorrt --force`."
        )


def _profile(builder: Any, network: Any, rows: int, buckets: list[int]) -> Any:
    """An optimization profile for runs of up to `rows` rows; the dimensions' names are those of export.py."""
    # The least, the usual and the most of each open dimension.
    r = (1, USUAL_ROWS if rows == DECODE_ROWS else rows, rows)
    d = (1, USUAL_ROWS, min(DECIDING_ROWS, rows))
    w = (buckets[0], buckets[len(buckets) // 2], buckets[-1])
    open_dimensions = {"rows": r, "slots": w, "deciding": d, "noises": d}
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = list(tensor.shape)
        names = [tensor.get_dimension_name(axis) for axis in range(len(shape))]
        dimensions = [open_dimensions.get(name, (size,) * 3) for name, size in zip(names, shape, strict=True)]
        if -1 in shape:
            profile.set_shape(tensor.name, *zip(*dimensions, strict=True))
    return profile
