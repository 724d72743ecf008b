"""Folders that are not, or no longer, engines: each ends in a sentence that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_drafts import compiled

from edgespec.core.errors import EdgespecError
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.manifest import FORMAT_VERSION, EngineManifest, hash_files

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("nowhere", r"there is no engine folder .*`edgespec compile MODEL --out"),
        ("model", r"is a model, not an engine: run `edgespec compile .*model --out"),
        (".", "is no engine folder"),
    ],
)
def test_a_folder_that_is_no_engine(folder: str, sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(compiled() / folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        *(f'{{"format_version": {FORMAT_VERSION}{rest}}}' for rest in ("", ', "files": 3')),
    ],
)
def test_a_damaged_manifest(engine: Path, text: str) -> None:
    (engine / "manifest.json").write_text(text)
    with pytest.raises(EdgespecError, match=r"manifest\.json is damaged: build it again with `edgespec comp"):
        load_draft(engine)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"capacity": "400"}, r"manifest\.json is damaged"),
        ({"layers": 0}, r"manifest\.json is damaged"),
        ({"model": 7}, r"manifest\.json is damaged"),
        ({"surplus": 1}, r"manifest\.json is damaged"),
        ({"vocabulary_hash": "zz"}, r"manifest\.json is damaged"),
        ({"files": {}}, r"manifest\.json is damaged"),
        ({"capacity": 1 << 25}, r"manifest\.json is damaged"),
        ({"capacity": 1 << 24, "layers": 1 << 24}, r"manifest\.json is damaged"),
        ({"files": ["draft.onnx", "calibration.json", "tokenizer.json"]}, r"manifest\.json is damaged"),
        ({"format_version": 99}, f"has format 99, and this edgespec reads format {FORMAT_VERSION}: build it"),
    ],
)
def test_a_manifest_with_a_wrong_entry(engine: Path, change: dict[str, Any], sentence: str) -> None:
    file = engine / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(engine)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["draft.onnx", "tokenizer.json", "calibration.json"])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [(_truncate, "was changed"), (_flip_a_bit, "was changed"), (Path.unlink, "is missing")],
)
def test_a_damaged_file_names_the_command_that_rebuilds_the_engine(
    engine: Path, name: str, damage: Callable[[Path], None], problem: str
) -> None:
    damage(engine / name)
    with pytest.raises(EdgespecError, match=f"{name} {problem}") as caught:
        load_draft(engine)
    command = f"`edgespec compile {EngineManifest.read(engine).model} --out {engine} --force`"
    assert command in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("draft.onnx", b"no graph", "cannot open the engine"),
        ("calibration.json", b"{}", "calibration in .* cannot be read"),
    ],
)
def test_a_file_that_was_written_wrong(engine: Path, name: str, content: bytes, sentence: str) -> None:
    (engine / name).write_bytes(content)
    replace(EngineManifest.read(engine), files=hash_files(engine)).save(engine)
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(engine)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"runtime": "tensorrt"}, "this machine has no NVIDIA GPU|is not built yet"),
        ({"runtime": "abacus"}, "there is no runtime 'abacus'"),
        ({"threads": 0}, "cannot run on 0 threads"),
    ],
)
def test_what_an_engine_cannot_be_opened_with(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(compiled() / "engine", **options)
