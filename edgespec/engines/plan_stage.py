"""The second stage of a build: an engine folder -> the same with a TensorRT plan for a device. No torch, no onnx.

It runs where the plan is to run, or, with TensorRT-RTX, on any machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.folder import check_place, whole_folder
from edgespec.engines.manifest import GRAPH_FILE, EngineManifest, record_files
from edgespec.tensorrt_engines.cuda_driver import Gpu, first_gpu
from edgespec.tensorrt_engines.plan import build_plan, plan_record
from edgespec.tensorrt_engines.tensorrt_api import build_capabilities, installed, load_api


@dataclass(frozen=True)
class PlanTarget:
    """For what a plan is built: a runtime, and a compute capability such as "8.7". gpu: the one in this machine."""

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


def can_build(runtime: str, compute_capability: str) -> bool:
    """Whether this machine builds plans for this capability, or if it is "" for its own GPU."""
    if not installed(runtime):
        return False
    gpu = first_gpu()
    wanted = compute_capability or (gpu.compute_capability if gpu else "")
    offered = build_capabilities(load_api(runtime))
    return wanted in offered if offered else gpu is not None and gpu.compute_capability == wanted


def holds_plan(manifest: EngineManifest, target: PlanTarget) -> bool:
    """Whether the engine has this plan, of the version that is installed here."""
    version = str(load_api(target.runtime).__version__)
    return any(
        (plan.runtime, plan.version, plan.compute_capability)
        == (target.runtime, version, target.compute_capability)
        for plan in manifest.plans
    )


def write_plan(folder: Path, target: PlanTarget) -> None:
    """Build the plan of the graph in `folder` into it, in place of an older one for the same device."""
    manifest = EngineManifest.read(folder)
    if manifest.precision == "int8":
        raise EdgespecError(
            f"the engine in {folder} is int8, which is for ONNX Runtime: compile the model with --precision fp16."
        )
    record = plan_record(target.runtime, target.compute_capability)
    plan = build_plan(target.runtime, folder / GRAPH_FILE, manifest, target.compute_capability, target.gpu)
    (folder / record.file).write_bytes(plan)
    others = tuple(other for other in manifest.plans if other.file != record.file)
    replace(manifest, runtime=target.runtime, plans=(*others, record), files=record_files(folder)).save(
        folder
    )


def add_plan(engine: Path, out: Path, target: PlanTarget, force: bool, report: Callable[[str], None]) -> Path:
    """The engine folder `out`, which may be `engine` itself, with the plan; nothing is built twice unless forced."""
    manifest = EngineManifest.load(engine)
    if out != engine:
        check_place(out, manifest.input_hash, replaceable=force)
    elif not force and holds_plan(manifest, target):
        return engine
    report(f"building the {target.runtime} plan for compute capability {target.compute_capability}")
    with whole_folder(out) as unfinished:
        shutil.copytree(engine, unfinished, dirs_exist_ok=True)
        write_plan(unfinished, target)
    return out
