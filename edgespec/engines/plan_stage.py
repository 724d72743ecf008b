"""The second stage of a build: adds a TensorRT plan to an engine folder. No torch, no onnx.

It runs where the plan is to run, or, with TensorRT-RTX, on any machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.whole_files import whole_folder
from edgespec.engines.engine_folder import check_place
from edgespec.engines.manifest import GRAPH_FILE, VISION_FILE, EngineManifest, PlanRecord, hash_files
from edgespec.tensorrt_engines.plan import PlanTarget, build_plan
from edgespec.tensorrt_engines.tensorrt_api import load_api


def write_plan(folder: Path, target: PlanTarget) -> None:
    """Build the plan of the graph in `folder` into it, in place of an older one for the same device."""
    manifest = EngineManifest.read(folder)
    if manifest.precision == "int8":
        raise EdgespecError(
            f"the engine in {folder} is int8, which is for ONNX Runtime: compile the model with --precision fp16."
        )
    name = f"{target.runtime}-sm{target.compute_capability.replace('.', '')}"
    file, vision_file = f"{name}.plan", "" if manifest.eyes is None else f"{name}-vision.plan"
    (folder / file).write_bytes(build_plan(target, folder / GRAPH_FILE, manifest))
    if vision_file:
        (folder / vision_file).write_bytes(build_plan(target, folder / VISION_FILE, manifest))
    plan = PlanRecord(file, target.runtime, _version(target), target.compute_capability, vision_file)
    others = tuple(other for other in manifest.plans if other.file != file)
    replace(manifest, runtime=target.runtime, plans=(*others, plan), files=hash_files(folder)).save(folder)


def add_plan(engine: Path, out: Path, target: PlanTarget, force: bool, report: Callable[[str], None]) -> Path:
    """The engine folder `out`, which may be `engine` itself, with the plan; nothing is built twice unless forced."""
    manifest = EngineManifest.load(engine)
    if out != engine:
        check_place(out, manifest.input_hash, replaceable=force)
    elif not force and _holds_plan(manifest, target):
        return engine
    report(f"building the {target.runtime} plan for compute capability {target.compute_capability}")
    with whole_folder(out) as unfinished:
        shutil.copytree(engine, unfinished, dirs_exist_ok=True)
        write_plan(unfinished, target)
    return out


def _holds_plan(manifest: EngineManifest, target: PlanTarget) -> bool:
    wanted = target.runtime, _version(target), target.compute_capability
    return wanted in {(plan.runtime, plan.version, plan.compute_capability) for plan in manifest.plans}


def _version(target: PlanTarget) -> str:
    """The installed version of the runtime."""
    return str(load_api(target.runtime).__version__)
