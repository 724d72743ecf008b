"""`edgespec.compile`: a draft model -> an engine folder that the edge runs without torch.

The folder is built beside its place under another name and moved there when it is whole and proven, so a
failed or interrupted build leaves nothing. It is a cache: the same model and settings are not built twice.
`python -m edgespec.compiling` builds the engine of the bundled draft into edgespec/pair/engine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from edgespec._version import __version__
from edgespec.draft import PAIR_DRAFT, PAIR_ENGINE, load_draft
from edgespec.engine_files import copy_files
from edgespec.errors import EdgespecError
from edgespec.manifest import (
    FORMAT_VERSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    BuildSettings,
    EngineManifest,
    hash_inputs,
    record_files,
)
from edgespec.model_source import check_libraries, model_folder
from edgespec.slots import SLOT_BUCKET
from edgespec.tensorrt_engines.runtimes import choose_runtime
from edgespec.tokenizer import Tokenizer

PRECISIONS = ("fp32", "fp16")

Report = Callable[[str], None]


def compile(
    model: str | Path,
    out: str | Path | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    max_len: int = 2048,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Build the engine folder of a draft model, and return where it is.

    model: a local folder in Hugging Face format, or an id such as "org/name". out: the folder to write; None:
    one in the user's cache, named by what it was made of. runtime: "auto" or "onnxruntime". precision: how
    matrices are kept in the file, "fp32" ("auto") or "fp16"; they compute in float32. max_len: tokens of a
    text, prompt included, that the draft can follow; at most the model's own context. force: build although
    the folder holds an engine.
    Raises EdgespecError, and leaves nothing half-written, when anything stands against it.
    """
    settings = _settings(runtime, precision, max_len)
    source = model_folder(str(model))
    input_hash = hash_inputs(source, settings)
    folder = Path(out).absolute() if out is not None else _cache_folder() / input_hash[:24]
    if not force and _holds(folder, input_hash):
        return folder
    _check_place(folder, input_hash, replaceable=force)
    check_libraries()
    with _reporter(progress) as report, _whole_folder(folder) as unfinished:
        _build(source, _label(source, str(model)), unfinished, settings, input_hash, report)
    return folder


def _build(
    source: Path, label: str, folder: Path, settings: BuildSettings, input_hash: str, report: Report
) -> None:
    """Fill an empty folder, and prove that the engine in it computes what the model does."""
    report("loading the model")
    copy_files(source, folder)
    vocabulary_hash = Tokenizer.load(folder).vocabulary_hash.hex()
    from edgespec.tensorrt_engines import draft_graph, export, parity

    model = export.load_model(source)
    capacity = export.usable_length(model.config, settings.max_len)
    graph = export.make_graph(model, capacity, settings.precision)
    report("exporting its graph")
    export.export_graph(graph, folder / GRAPH_FILE)
    report("checking the engine against the model")
    EngineManifest(
        format_version=FORMAT_VERSION,
        edgespec_version=__version__,
        built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=label,
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
        input_hash=input_hash,
        files=record_files(folder),
    ).save(folder)
    difference = parity.engine_difference(model, load_draft(folder))
    if difference is not None:
        raise EdgespecError(
            f"the engine of {label} does not compute what the model does ({difference}): not saved."
        )


def _settings(runtime: str, precision: str, max_len: int) -> BuildSettings:
    if precision not in ("auto", *PRECISIONS):
        raise EdgespecError(
            f"there is no precision {precision!r}: choose 'auto' or one of {', '.join(PRECISIONS)}."
        )
    if max_len < SLOT_BUCKET:
        raise EdgespecError(f"max_len {max_len} is too short for a text: give at least {SLOT_BUCKET}.")
    return BuildSettings(
        choose_runtime(runtime), PRECISIONS[0] if precision == "auto" else precision, max_len
    )


def _label(source: Path, model: str) -> str:
    return "edgespec/pair/draft" if source.resolve() == PAIR_DRAFT.resolve() else model


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).absolute() / "edgespec" / "engines"


def _holds(folder: Path, input_hash: str) -> bool:
    """Whether `folder` is a whole engine made of these inputs."""
    try:
        return EngineManifest.load(folder).input_hash == input_hash
    except EdgespecError:
        return False


def _check_place(folder: Path, input_hash: str, replaceable: bool) -> None:
    """Raises EdgespecError where a build into `folder` would destroy something that is not this engine."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST_FILE).is_file():
        raise EdgespecError(f"{folder} exists and is no engine: give another place, or remove it first.")
    with suppress(EdgespecError):
        replaceable = replaceable or EngineManifest.read(folder).input_hash == input_hash
    if not replaceable:
        raise EdgespecError(
            f"{folder} holds another engine: give another place, or force the build to replace it."
        )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place if the block ends well and vanishes if not."""
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
        yield unfinished
        unfinished.chmod(0o755)
        if folder.exists():
            replaced = Path(
                tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".replaced", dir=folder.parent)
            )
            os.rename(folder, replaced)
            try:
                os.rename(unfinished, folder)
            except BaseException:
                os.rename(replaced, folder)
                raise
            shutil.rmtree(replaced)
        else:
            os.rename(unfinished, folder)
    except OSError as error:
        raise EdgespecError(
            f"the engine cannot be written to {folder} ({error}): give another place."
        ) from None
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


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
    print(compile(PAIR_DRAFT, PAIR_ENGINE, force=True))
