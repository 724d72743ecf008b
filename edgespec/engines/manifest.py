"""The manifest of an engine folder: what the engine was made of, its sizes, and a hash of every file.

`edgespec.compile` writes it last, and `load_draft` opens a folder only when its files match. Every error names the
command that builds the engine again.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.pictures import MAX_PIXELS
from edgespec.core.weight_files import weight_files
from edgespec.core.whole_files import sha256_of
from edgespec.tensorrt_engines.draft_shape import PIXELS, DraftShape, EyesShape

FORMAT_VERSION = 3
"""Of the folder and of the graph in it; an engine of another format is built again."""

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "draft.onnx"
VISION_FILE = "vision.onnx"
CALIBRATION_FILE = "calibration.json"
TOKENIZER_FILE = "tokenizer.json"

MOST_BYTES = 1 << 20
"""Of a manifest."""

MOST = 1 << 24
"""Of each size in it."""

MOST_CACHE = 1 << 34
"""Numbers of keys in the cache of a draft: what a damaged manifest asks for is refused before memory is."""

MOST_FEATURES = 1 << 26
"""Numbers that the vision encoder makes of one picture."""

BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".txt"}
"""Files of a model's folder that an engine may depend on, beside the weights."""


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built. precision: of the matrices. max_len: tokens of a text at most. picture_size: height and
    width in pixels at which it sees; None: it reads text only."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    max_len: int = 2048
    picture_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class PlanRecord:
    """A TensorRT plan of the folder, and the only runtime, version and compute capability that it serves. vision_file:
    the plan of the vision encoder; "": the draft has none."""

    file: str
    runtime: str
    version: str
    compute_capability: str
    vision_file: str = ""

    @property
    def files(self) -> set[str]:
        return {self.file, self.vision_file} - {""}


@dataclass(frozen=True)
class EngineManifest(DraftShape):
    """What an engine folder holds: a draft of these sizes.

    built: UTC, ISO 8601. model: the path or id given to compile. vocabulary_hash: hex, the tokenizer's. input_hash:
    hex, over the model's files and the settings. files: the SHA-256 of each, as hex.
    """

    format_version: int
    edgespec_version: str
    built: str
    model: str
    architecture: str
    runtime: str
    precision: str
    vocabulary_hash: str
    input_hash: str
    files: Mapping[str, str]
    plans: tuple[PlanRecord, ...] = ()

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> EngineManifest:
        """The manifest of an engine folder whose files are all as they were written. Raises EdgespecError."""
        manifest = cls.read(folder)
        for name, recorded in manifest.files.items():
            file = folder / name
            if not file.is_file() or sha256_of(file) != recorded:
                problem = "was changed" if file.is_file() else "is missing"
                raise EdgespecError(
                    f"the engine in {folder} is damaged ({name} {problem}): "
                    f"build it again with `{manifest.rebuild_command(folder)}`."
                )
        return manifest

    @classmethod
    def read(cls, folder: Path) -> EngineManifest:
        """The manifest alone; the other files may be damaged. Raises EdgespecError."""
        file = folder / MANIFEST_FILE
        if not file.is_file():
            raise EdgespecError(_no_engine(folder))
        again = f"build it again with `edgespec compile MODEL --out {_quoted(folder)} --force`."
        try:
            if file.stat().st_size > MOST_BYTES:
                raise ValueError("no manifest is so large")
            data = json.loads(file.read_text(encoding="utf-8"))
            if data["format_version"] != FORMAT_VERSION:
                raise EdgespecError(
                    f"the engine in {folder} has format {data['format_version']}, and this edgespec reads "
                    f"format {FORMAT_VERSION}: {again}"
                )
            plans = tuple(PlanRecord(**record) for record in data["plans"])
            eyes = EyesShape(**data["eyes"]) if data.get("eyes") is not None else None
            manifest = cls(**{**data, "files": dict(data["files"]), "plans": plans, "eyes": eyes})
            _check_types(manifest)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EdgespecError(f"{file} is damaged: {again}") from None
        return manifest

    def plan_command(self, folder: Path, runtime: str) -> str:
        """The command that builds the plan of the device that it runs on."""
        return f"edgespec compile {_quoted(folder)} --runtime {runtime}"

    def rebuild_command(self, folder: Path) -> str:
        runtime = "" if self.runtime == BuildSettings.runtime else f" --runtime {self.runtime}"
        eyes = "" if self.eyes is None else f" --picture-size {self.eyes.width}x{self.eyes.height}"
        return f"edgespec compile {shlex.quote(self.model)} --out {_quoted(folder)}{runtime}{eyes} --force"


def hash_files(folder: Path) -> dict[str, str]:
    """The SHA-256, as hex, of every file in `folder` except the manifest."""
    files = (file for file in sorted(folder.iterdir()) if file.is_file())
    return {file.name: sha256_of(file) for file in files if file.name != MANIFEST_FILE}


def hash_inputs(model_folder: Path, settings: BuildSettings, tokenizer_hash: str = "") -> str:
    """A hash of what an engine is made of, as hex: the model's files, the settings and the format of engines;
    tokenizer_hash: of the tokenizer, where it is not the model's own."""
    beside = [file for file in model_folder.iterdir() if file.is_file() and file.suffix in BESIDE_WEIGHTS]
    model_files = {file.name: sha256_of(file) for file in sorted([*beside, *weight_files(model_folder)])}
    chosen = {name: value for name, value in asdict(settings).items() if value is not None}
    inputs = [FORMAT_VERSION, chosen, model_files, *([tokenizer_hash] if tokenizer_hash else [])]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _check_types(manifest: EngineManifest) -> None:
    for field in fields(manifest):
        value = getattr(manifest, field.name)
        if field.type == "int" and (type(value) is not int or not 1 <= value <= MOST):
            raise TypeError(field.name)
        if field.type == "str" and not isinstance(value, str):
            raise TypeError(field.name)
    bytes.fromhex(manifest.vocabulary_hash)
    if not all(_is_plain(name) for name in manifest.files):
        raise KeyError("files")
    if manifest.layers * manifest.capacity * manifest.kv_heads * manifest.head_dim > MOST_CACHE:
        raise ValueError("the cache")
    if manifest.eyes is not None:
        _check_eyes(manifest.eyes, manifest)
    if not {file for plan in manifest.plans for file in plan.files} <= set(manifest.files):
        raise KeyError("plans")
    if not {GRAPH_FILE, CALIBRATION_FILE, TOKENIZER_FILE} <= set(manifest.files):
        raise KeyError("files")


def _check_eyes(eyes: EyesShape, manifest: EngineManifest) -> None:
    sides = (eyes.height, eyes.width, eyes.cell, eyes.features)
    if not all(type(side) is int and 1 <= side <= MOST for side in sides) or eyes.layout != PIXELS:
        raise TypeError("eyes")
    if eyes.height % eyes.cell or eyes.width % eyes.cell or eyes.height * eyes.width > MAX_PIXELS:
        raise ValueError("the picture")
    if eyes.rows > manifest.capacity or eyes.rows * eyes.features > MOST_FEATURES:
        raise ValueError("the rows of a picture")
    if VISION_FILE not in manifest.files:
        raise KeyError("files")


def _is_plain(name: str) -> bool:
    """A file in the folder itself, and nowhere else."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _no_engine(folder: Path) -> str:
    command, quoted = "edgespec compile", _quoted(folder)
    if not folder.exists():
        return f"there is no engine folder {folder}: build one with `{command} MODEL --out {quoted}`."
    if (folder / "config.json").is_file():
        return f"{folder} is a model, not an engine: run `{command} {quoted} --out ENGINE_DIR` first."
    return f"{folder} is no engine folder (it holds no {MANIFEST_FILE}): give what `{command}` wrote."


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder))
