"""Folders that are not, or no longer, engines: each ends in a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_drafts import save_draft

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.engines.draft_engine import load_draft
from edgespec.engines.manifest import EngineManifest, record_files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `model` and its `engine`."""
    folder = tmp_path_factory.mktemp("made")
    edgespec.compile(save_draft(folder / "model"), folder / "engine", progress=False)
    return folder


@pytest.fixture
def engine(made: Path, tmp_path: Path) -> Path:
    """An engine folder that a test may damage."""
    return shutil.copytree(made / "engine", tmp_path / "engine")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=r"there is no engine folder .*`edgespec compile MODEL --out"):
        load_draft(tmp_path / "nowhere")


def test_a_folder_that_is_a_model(made: Path) -> None:
    with pytest.raises(
        EdgespecError, match=r"is a model, not an engine: run `edgespec compile .*model --out"
    ):
        load_draft(made / "model")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="is no engine folder"):
        load_draft(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"format_version": 2}', '{"format_version": 2, "files": {"a": 3}}']
)
def test_a_damaged_manifest(engine: Path, text: str) -> None:
    (engine / "manifest.json").write_text(text)
    with pytest.raises(
        EdgespecError, match=r"manifest\.json is damaged: build it again with `edgespec compile"
    ):
        load_draft(engine)


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": "400"},
        {"layers": 0},
        {"model": 7},
        {"surplus": 1},
        {"vocabulary_hash": "zz"},
        {"files": {}},
    ],
)
def test_a_manifest_with_a_wrong_entry(engine: Path, change: dict[str, Any]) -> None:
    file = engine / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(EdgespecError, match=r"manifest\.json is damaged"):
        load_draft(engine)


def test_an_engine_of_another_format(engine: Path) -> None:
    file = engine / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))
    with pytest.raises(
        EdgespecError, match="has format 99, and this edgespec reads format 2: build it again"
    ):
        load_draft(engine)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["draft.onnx", "tokenizer.json", "calibration.json"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [(_truncate, "bytes in place of"), (_change, "was changed"), (Path.unlink, "is missing")],
)
def test_a_damaged_file_names_the_command_that_rebuilds_the_engine(
    engine: Path, name: str, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(engine / name)
    with pytest.raises(EdgespecError, match=f"{name} .*{sentence}|{name} {sentence}") as caught:
        load_draft(engine)
    assert f"`edgespec compile {EngineManifest.read(engine).model} --out {engine} --force`" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("draft.onnx", b"no graph", "cannot open the engine"),
        ("calibration.json", b"{}", "calibration in .* cannot be read"),
    ],
)
def test_a_file_that_was_written_wrong(engine: Path, name: str, content: bytes, sentence: str) -> None:
    (engine / name).write_bytes(content)
    replace(EngineManifest.read(engine), files=record_files(engine)).save(engine)
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(engine)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"runtime": "tensorrt"}, "this machine has no NVIDIA GPU|has no tensorrt plan yet"),
        ({"runtime": "abacus"}, "there is no runtime 'abacus'"),
        ({"threads": 0}, "cannot run on 0 threads"),
    ],
)
def test_what_an_engine_cannot_be_opened_with(made: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        load_draft(made / "engine", **options)
