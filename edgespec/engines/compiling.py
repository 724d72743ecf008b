"""`edgespec.compile`: a draft model -> an engine folder that the edge runs without torch.

Two stages, which may run on two machines: model -> ONNX here (it needs torch), ONNX -> TensorRT plan in plan_stage.py
(it needs the runtime). The folder is moved to its place when it is whole and proven, so a failed or interrupted build
leaves nothing. It is a cache: the same model and settings are not built twice.
`python -m edgespec.engines.compiling` builds the engine of the bundled draft into edgespec/pair/engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgespec._version import __version__
from edgespec.core.errors import EdgespecError
from edgespec.core.folder import cache_folder, check_place, holds, whole_folder
from edgespec.core.slots import SLOT_BUCKET
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.draft_engine import PAIR_DRAFT, PAIR_ENGINE, load_draft
from edgespec.engines.files import copy_files
from edgespec.engines.manifest import (
    FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    BuildSettings,
    EngineManifest,
    hash_inputs,
    record_files,
)
from edgespec.engines.model_source import check_libraries, model_folder, out_of_memory
from edgespec.engines.plan_stage import add_plan, can_build, plan_target, write_plan
from edgespec.tensorrt_engines.device_profiles import DeviceProfile, load_profile
from edgespec.tensorrt_engines.runtimes import choose_runtime
from edgespec.tensorrt_engines.tensorrt_api import MODULES

PRECISIONS = ("fp32", "fp16", "int8")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """One build: of what, how, and for which device. compute_capability: "" is that of the GPU in this machine."""

    source: Path
    label: str
    settings: BuildSettings
    compute_capability: str
    device: DeviceProfile | None
    input_hash: str

    @property
    def for_gpu(self) -> bool:
        return self.settings.runtime in MODULES


def compile(
    model: str | Path,
    out: str | Path | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    target_device: str | None = None,
    max_len: int | None = None,
    target_tokenizer: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Build the engine folder of a draft model, and return where it is.

    model: a local folder in Hugging Face format, or an id such as "org/name"; or an engine folder, to add a TensorRT
    plan to it. out: the folder to write; None: one in the user's cache, named by what it was made of (an engine
    folder: itself). runtime: "onnxruntime", "tensorrt", "tensorrt-rtx", or "auto", what this machine or the target
    device has. precision: of the matrices, "fp32", "fp16" or "int8" ("auto": fp16 on a GPU, else fp32); halves
    multiply as halves on a GPU and as float32 on a CPU, and int8 is for ONNX Runtime alone. target_device: a profile's
    name, whose settings hold where none is given. max_len: tokens of a text, prompt included,
    that the draft can follow (2048); at most the model's own context. target_tokenizer: the target's folder or its
    tokenizer.json; a draft of another vocabulary is refused here, where it would be refused when a session opens.
    force: build although the folder holds an engine.
    Where the plan of a TensorRT runtime cannot be built here, the folder holds the ONNX graph for the device to build
    it of. Raises EdgespecError, and leaves nothing half-written, when anything stands against it.
    """
    device = load_profile(target_device) if target_device is not None else None
    runtime = device.runtime if device is not None and runtime == "auto" else choose_runtime(runtime)
    capability = device.compute_capability if device is not None and device.runtime == runtime else ""
    if runtime in MODULES and (Path(model) / MANIFEST_FILE).is_file():
        engine = Path(model).absolute()
        _check_shared(engine, target_tokenizer)
        target = plan_target(runtime, capability)
        with _reporter(progress) as report:
            return add_plan(engine, engine if out is None else Path(out).absolute(), target, force, report)
    settings = _settings(runtime, precision, max_len, device)
    source = model_folder(str(model))
    _check_shared(source, target_tokenizer)
    input_hash = hash_inputs(source, settings)
    folder = Path(out).absolute() if out is not None else cache_folder() / input_hash[:24]
    build = Build(source, _label(source, str(model)), settings, capability, device, input_hash)
    with _reporter(progress) as report:
        if force or not holds(folder, input_hash):
            check_place(folder, input_hash, replaceable=force)
            check_libraries()
            with _enough_memory(), whole_folder(folder) as unfinished:
                _build(build, unfinished, report)
        elif build.for_gpu and can_build(runtime, capability):
            add_plan(folder, folder, plan_target(runtime, capability), False, report)
    if build.for_gpu and progress and not EngineManifest.read(folder).plans:
        command = EngineManifest.read(folder).plan_command(Path("ENGINE_DIR"), runtime)
        print(
            f"{folder} holds no plan yet: copy it to the device and run `{command}` there.", file=sys.stderr
        )
    return folder


def _build(build: Build, folder: Path, report: Report) -> None:
    """Fill an empty folder, and prove that the engine in it computes what the model does."""
    report("loading the model")
    settings = build.settings
    copy_files(build.source, folder)
    vocabulary_hash = Tokenizer.load(folder).vocabulary_hash.hex()
    from edgespec.tensorrt_engines import draft_graph, export, parity

    model = export.load_model(build.source)
    capacity = export.usable_length(model.config, settings.max_len)
    graph = export.make_graph(model, capacity, settings.precision, build.for_gpu)
    _check_device_memory(graph.device_bytes(capacity), build.device)
    report("exporting its graph")
    export.export_graph(graph, folder / GRAPH_FILE)
    if settings.precision == "int8":
        from edgespec.tensorrt_engines.quantize import quantize

        report("rounding its weights to int8")
        quantize(folder / GRAPH_FILE)
    report("checking the engine against the model")
    EngineManifest(
        format_version=FORMAT_VERSION,
        edgespec_version=__version__,
        built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=build.label,
        architecture=type(model).__name__,
        layers=len(graph.layers),
        width=graph.embedding.shape[1],
        heads=graph.heads,
        kv_heads=graph.kv_heads,
        head_dim=graph.head_dim,
        vocabulary_size=graph.head.weight.shape[0],
        capacity=capacity,
        choices=draft_graph.CHOICES,
        runtime=settings.runtime,
        precision=settings.precision,
        vocabulary_hash=vocabulary_hash,
        input_hash=build.input_hash,
        files=record_files(folder),
    ).save(folder)
    multiplied = "int8" if settings.precision == "int8" else str(graph.compute).removeprefix("torch.")
    engine = load_draft(folder, "onnxruntime")
    difference = parity.engine_difference(model, engine, parity.BOUNDS[multiplied])
    if difference is not None:
        raise EdgespecError(
            f"the engine of {build.label} does not compute what the model does ({difference}): not saved."
        )
    if build.for_gpu and can_build(settings.runtime, build.compute_capability):
        report(f"building the {settings.runtime} plan")
        write_plan(folder, plan_target(settings.runtime, build.compute_capability))


def _check_shared(draft: Path, target_tokenizer: str | Path | None) -> None:
    """Raises EdgespecError where the target's tokenizer is given and gives other ids than the draft's."""
    if target_tokenizer is None:
        return
    ours, theirs = Tokenizer.load(draft), Tokenizer.load(target_tokenizer)
    if ours.vocabulary_hash != theirs.vocabulary_hash:
        raise EdgespecError(
            f"the draft's tokenizer ({ours.vocabulary_size} tokens) is not the target's "
            f"({theirs.vocabulary_size} tokens in {target_tokenizer}): use a draft that was trained with the target's "
            "tokenizer, or train one (`edgespec train draft`)."
        )


def _check_device_memory(needed: int, device: DeviceProfile | None) -> None:
    """Raises EdgespecError where weights and cache would leave a device less than half of its memory."""
    if device is not None and needed > device.memory_gb * 2**30 // 2:
        raise EdgespecError(
            f"the draft needs {needed / 2**30:.1f} GiB for weights and cache, too much for {device.description} with "
            f"{device.memory_gb} GB: use a smaller draft, or a smaller max_len."
        )


def _settings(
    runtime: str,
    precision: str,
    max_len: int | None,
    device: DeviceProfile | None,
) -> BuildSettings:
    """What was asked for, then what the device's profile says, then what suits the runtime."""
    usual = BuildSettings(runtime, "fp16" if runtime in MODULES else "fp32")
    if device is not None:
        usual = BuildSettings(
            runtime,
            device.precision if device.runtime == runtime else usual.precision,
            device.max_len,
        )
    if precision not in ("auto", *PRECISIONS):
        raise EdgespecError(
            f"there is no precision {precision!r}: choose 'auto' or one of {', '.join(PRECISIONS)}."
        )
    settings = BuildSettings(
        runtime,
        usual.precision if precision == "auto" else precision,
        usual.max_len if max_len is None else max_len,
    )
    if settings.precision == "int8" and runtime in MODULES:
        raise EdgespecError(
            "int8 weights are for ONNX Runtime: use --precision fp16, or --runtime onnxruntime."
        )
    if settings.max_len < SLOT_BUCKET:
        raise EdgespecError(
            f"max_len {settings.max_len} is too short for a text: give at least {SLOT_BUCKET}."
        )
    return settings


def _label(source: Path, model: str) -> str:
    return "edgespec/pair/draft" if source.resolve() == PAIR_DRAFT.resolve() else model


@contextmanager
def _enough_memory() -> Iterator[None]:
    """One sentence for all the ways in which libraries say that this machine has too little."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise EdgespecError(
            "the build ran out of memory: end other programs, or compile the draft on a larger machine."
        ) from None


@contextmanager
def _reporter(progress: bool) -> Iterator[Report]:
    """Shows each stage on the terminal while it runs."""
    if not progress:
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling the draft ...") as status:
        yield lambda stage: status.update(f"compiling the draft: {stage} ...")


if __name__ == "__main__":
    print(compile(PAIR_DRAFT, PAIR_ENGINE, runtime="onnxruntime", force=True))
