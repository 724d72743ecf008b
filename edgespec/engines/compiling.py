"""`edgespec.compile`: a draft model -> an engine folder that the edge runs without torch.

Two stages, which may run on two machines: model -> ONNX here, which needs torch; ONNX -> TensorRT plan in
plan_stage.py, which needs the runtime. The folder is moved to its place when it is whole and checked, so a failed or
interrupted build leaves nothing. It is a cache: the same model and settings are not built twice.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgespec._version import __version__
from edgespec.core.cache_folder import cache_folder
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import whole_folder
from edgespec.engines import seeing
from edgespec.engines.build_settings import assumptions, check_device_memory, choose_settings
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.engine_folder import check_place, copy_files, holds
from edgespec.engines.manifest import (
    FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    VISION_FILE,
    BuildSettings,
    EngineManifest,
    hash_files,
    hash_inputs,
)
from edgespec.engines.model_folder import find_folder, read_weights
from edgespec.engines.plan_stage import add_plan, write_plan
from edgespec.engines.runtimes import choose_runtime
from edgespec.engines.target_tokenizer import check_vocabulary, tokenizer_folder
from edgespec.tensorrt_engines.device_profiles import DeviceProfile, load_profile
from edgespec.tensorrt_engines.plan import buildable_target, plan_target
from edgespec.tensorrt_engines.tensorrt_api import MODULES

if TYPE_CHECKING:
    from edgespec.engines.draft_graph import DraftGraph

NO_MEMORY = ("allocate memory", "failed to map segment", "bad_alloc")
"""How torch, the operating system and C++ say it; torch's exporter wraps them in errors of its own."""

LIBRARIES = ("torch", "transformers", "onnx", "onnxscript")
"""What a build needs beyond what an edge has."""
Report = Callable[[str], None]
"""Told the name of each stage as it begins."""


@dataclass(frozen=True)
class Build:
    """tokenizer: the folder that the tokenizer is taken from. compute_capability: of the GPU to build a plan for; "":
    the one in this machine."""

    source: Path
    tokenizer: Path
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
    picture_size: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Build the engine folder of a draft model, and return its path.

    model: a local folder in Hugging Face format, or an id such as "org/name"; or an engine folder, to add a TensorRT
    plan to it. out: the folder to write; None: one in the user's cache, named by a hash of its inputs (an engine
    folder: itself). runtime: "onnxruntime", "tensorrt", "tensorrt-rtx", or "auto": what this machine or the target
    device has. precision: of the matrices, "fp32", "fp16", "int8" (ONNX Runtime only), or "auto": fp16 on a GPU, else
    fp32. Half-precision matrices multiply as halves on a GPU and as float32 on a CPU. target_device: the name of a
    profile, which gives the settings left open here. max_len: tokens of a text, prompt included, that the draft can
    follow (2048); at most the model's own context. target_tokenizer: the target's folder or its tokenizer.json; a
    draft of another vocabulary is refused, and the engine encodes text as the target does. picture_size: of a draft
    that sees, WIDTHxHEIGHT in pixels; every picture is scaled to it (None: about 224x224). force: build although the
    folder holds an engine. Where the plan of a TensorRT runtime cannot be built here, the folder holds the ONNX graph,
    and the device builds the plan of it. Raises EdgespecError, and then leaves nothing half-written.
    """
    device = load_profile(target_device) if target_device is not None else None
    runtime = device.runtime if device is not None and runtime == "auto" else choose_runtime(runtime)
    capability = device.compute_capability if device is not None and device.runtime == runtime else ""
    with _reporter(progress) as report:
        if runtime in MODULES and (Path(model) / MANIFEST_FILE).is_file():
            engine = Path(model).absolute()
            _check_engine(engine, target_tokenizer, picture_size)
            manifest = EngineManifest.read(engine)
            _say_assumptions(progress, device, runtime, manifest.precision, manifest.capacity)
            place = engine if out is None else Path(out).absolute()
            return add_plan(engine, place, plan_target(runtime, capability), force, report)
        settings = choose_settings(runtime, precision, max_len, device)
        if (Path(model) / MANIFEST_FILE).is_file() and (Path(model) / GRAPH_FILE).is_file():
            raise EdgespecError(
                f"{model} is an engine already: pass it as a draft, or compile the model it was made of."
            )
        _say_assumptions(progress, device, settings.runtime, settings.precision, settings.max_len)
        build = _build_of(model, settings, capability, device, target_tokenizer, picture_size)
        folder = Path(out).absolute() if out is not None else cache_folder("engines") / build.input_hash[:24]
        _build_once(build, folder, force, report)
    if build.for_gpu and progress:
        _say_what_is_left(folder, runtime)
    return folder


def _say_what_is_left(folder: Path, runtime: str) -> None:
    """Where the engine's plan has to be built on the device."""
    manifest = EngineManifest.read(folder)
    if not manifest.plans:
        command = manifest.plan_command(Path("ENGINE_DIR"), runtime)
        print(
            f"{folder} holds no plan yet: copy it to the device and run `{command}` there.", file=sys.stderr
        )


def _check_engine(engine: Path, target_tokenizer: str | Path | None, picture_size: str | None) -> None:
    """Raises EdgespecError for settings that an engine has no choice of any more."""
    if picture_size is not None:
        raise EdgespecError(f"{engine} is an engine, whose picture_size is chosen already: leave it out.")
    check_vocabulary(engine, target_tokenizer)


def _build_of(
    model: str | Path,
    settings: BuildSettings,
    capability: str,
    device: DeviceProfile | None,
    target_tokenizer: str | Path | None,
    picture_size: str | None,
) -> Build:
    """What to build of a model; the arguments are those of `compile`."""
    source = find_folder(model)
    settings = replace(settings, picture_size=seeing.picture_size(source, picture_size))
    check_vocabulary(source, target_tokenizer)
    tokenizer = tokenizer_folder(source, target_tokenizer)
    encoding_hash = "" if tokenizer == source else Tokenizer.load(tokenizer).encoding_hash
    input_hash = hash_inputs(source, settings, encoding_hash)
    return Build(source, tokenizer, _label(source, str(model)), settings, capability, device, input_hash)


def _say_assumptions(
    progress: bool, device: DeviceProfile | None, runtime: str, precision: str, max_len: int
) -> None:
    if progress and device is not None:
        print(assumptions(device, runtime, precision, max_len), file=sys.stderr)


def _build_once(build: Build, folder: Path, force: bool, report: Report) -> None:
    """Build unless `folder` holds this engine already; then only a plan may be missing."""
    if force or not holds(folder, build.input_hash):
        check_place(folder, build.input_hash, replaceable=force)
        check_libraries()
        with _enough_memory(), whole_folder(folder) as unfinished:
            _build(build, unfinished, report)
    elif build.for_gpu and (target := buildable_target(build.settings.runtime, build.compute_capability)):
        add_plan(folder, folder, target, False, report)


def _build(build: Build, folder: Path, report: Report) -> None:
    """Fill an empty folder, and check that the engine in it computes what the model does."""
    import torch

    from edgespec.engines import export, parity

    report("loading the model")
    settings = build.settings
    copy_files(build.source, folder, build.tokenizer)
    Tokenizer.load(folder)  # a broken tokenizer is found before the long work
    size = settings.picture_size
    model = read_weights(build.source, dtype=torch.float32, pictures=size is not None).eval()
    capacity = export.usable_length(model.config.get_text_config(), settings.max_len)
    eyes = None if size is None else seeing.eyes_shape(model.config, size)
    graph = export.make_graph(model, capacity, settings.precision, build.for_gpu, eyes)
    vision = (
        None
        if eyes is None
        else export.make_vision(build.source, model, eyes, settings.precision, build.for_gpu)
    )
    check_device_memory(graph.device_bytes(capacity) + (vision.device_bytes if vision else 0), build.device)
    report("exporting its graph")
    export.export_graph(graph, folder / GRAPH_FILE)
    if vision is not None:
        export.export_vision(vision, folder / VISION_FILE)
    if settings.precision == "int8":
        from edgespec.engines.quantize import quantize

        report("rounding its weights to int8")
        quantize(folder / GRAPH_FILE)
    report("checking the engine against the model")
    _manifest(build, folder, graph, type(model).__name__).save(folder)
    multiplied = "int8" if settings.precision == "int8" else str(graph.compute).removeprefix("torch.")
    engine, bound = load_draft(folder, "onnxruntime"), parity.BOUNDS[multiplied]
    difference = parity.engine_difference(model, engine, bound)
    if difference is None and vision is not None:
        engine.reset()
        difference = parity.picture_difference(model, engine, vision.scale, bound)
    if difference is not None:
        raise EdgespecError(
            f"the engine of {build.label} does not compute what the model does ({difference}): not saved."
        )
    if build.for_gpu and (target := buildable_target(settings.runtime, build.compute_capability)):
        report(f"building the {settings.runtime} plan")
        write_plan(folder, target)


def _manifest(build: Build, folder: Path, graph: DraftGraph, architecture: str) -> EngineManifest:
    return EngineManifest(
        format_version=FORMAT_VERSION,
        edgespec_version=__version__,
        built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=build.label,
        architecture=architecture,
        **vars(graph.shape),
        runtime=build.settings.runtime,
        precision=build.settings.precision,
        vocabulary_hash=Tokenizer.load(folder).vocabulary_hash.hex(),
        input_hash=build.input_hash,
        files=hash_files(folder),
    )


def check_libraries() -> None:
    """Raises EdgespecError, naming the extra to install, where a library of the build is missing."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise EdgespecError(f"compiling a draft needs {', '.join(missing)}: pip install 'edgespec[compile]'.")


def _label(source: Path, model: str) -> str:
    """What the manifest calls the model; the bundled draft has the same name on every machine."""
    package = Path(__file__).resolve().parents[1]
    folder = source.resolve()
    return str(folder.relative_to(package.parent)) if folder.is_relative_to(package) else model


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Turns the ways in which libraries say that memory is short into one EdgespecError."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError) or any(words in str(cause) for words in NO_MEMORY):
                raise EdgespecError(
                    "the build ran out of memory: end other programs, or compile the draft on a larger machine."
                ) from None
            cause = cause.__cause__ or cause.__context__
        raise


@contextmanager
def _reporter(progress: bool) -> Iterator[Report]:
    """Shows each stage on the terminal while it runs."""
    if not progress:
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling the draft ...") as status:
        yield lambda stage: status.update(f"compiling the draft: {stage} ...")
