"""The engine folder around the graph: what it copies from the model's folder, and where a build may write it."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.engines.manifest import CALIBRATION_FILE, MANIFEST_FILE, TOKENIZER_FILE, EngineManifest

TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
"""The tokenizer, the chat template and the end tokens."""

COPIED_FILES = (*TOKENIZER_FILES, "config.json", CALIBRATION_FILE)

NEUTRAL_MARGINS = [0.1, 0.36, 0.69, 1.2, 2.3]
NEUTRAL_RANKS = (
    [0.32, 0.44, 0.57, 0.78, 0.95],
    [0.28, 0.21, 0.17, 0.07, 0.02],
    [0.12, 0.11, 0.07, 0.04, 0.01],
    [0.06, 0.05, 0.04, 0.02, 0.01],
)
"""For a draft without a calibration: how often a 2-layer draft was right at T = 0.8, by its margin."""

_RANKS = [{"margins": NEUTRAL_MARGINS, "probabilities": probabilities} for probabilities in NEUTRAL_RANKS]
NEUTRAL_CALIBRATION = {"version": 1, "temperatures": [{"temperature": 0.8, "ranks": _RANKS}]}


def copy_files(source: Path, folder: Path, tokenizer: Path) -> None:
    """Copy what an edge needs from the model's folder, and TOKENIZER_FILES from the folder `tokenizer`; a neutral
    calibration where the model has none. Raises EdgespecError."""
    for name in COPIED_FILES:
        file = (tokenizer if name in TOKENIZER_FILES else source) / name
        if file.is_file():
            shutil.copyfile(file, folder / name)
    if not (folder / TOKENIZER_FILE).is_file():
        raise EdgespecError(
            f"{source} holds no {TOKENIZER_FILE}: save the model's fast tokenizer there "
            "(transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder))."
        )
    if not (folder / CALIBRATION_FILE).is_file():
        (folder / CALIBRATION_FILE).write_text(json.dumps(NEUTRAL_CALIBRATION) + "\n", encoding="utf-8")
    try:
        read_calibration(folder)
    except (ValueError, EdgespecError) as error:
        raise EdgespecError(
            f"{source / CALIBRATION_FILE} cannot be read ({error}): make it again or remove it."
        ) from None


def read_calibration(folder: Path) -> Calibration:
    """Raises ValueError or EdgespecError where the file is damaged."""
    return Calibration.from_json(json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8")))


def holds(folder: Path, input_hash: str) -> bool:
    """Whether `folder` is a whole engine made of these inputs."""
    try:
        return EngineManifest.load(folder).input_hash == input_hash
    except EdgespecError:
        return False


def check_place(folder: Path, input_hash: str, replaceable: bool) -> None:
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
