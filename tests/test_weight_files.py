"""Which files of a model's folder are its weights, broken downloads, and folders that bring code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.weight_files import weight_bytes, weight_files
from edgespec.engines.manifest import BuildSettings, hash_inputs
from edgespec.engines.model_folder import find_folder

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def sharded(folder: Path, present: int = 2) -> Path:
    """A folder whose index names two shards of 16 bytes, of which `present` are there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    names = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))
    for shard in SHARDS[:present]:
        (folder / shard).write_bytes(bytes(16))
    return folder


@pytest.mark.parametrize("copy", ["consolidated.safetensors", "pytorch_model.bin"])
def test_a_second_copy_of_the_weights_is_neither_counted_nor_read(copy: str, tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    before = hash_inputs(folder, BuildSettings())
    (folder / copy).touch()
    os.truncate(folder / copy, 1 << 40)
    assert [file.name for file in weight_files(folder)] == list(SHARDS)
    assert weight_bytes(folder) == 32
    assert hash_inputs(folder, BuildSettings()) == before


def test_one_file_goes_before_shards(tmp_path: Path) -> None:
    folder = sharded(tmp_path)
    (folder / "model.safetensors").write_bytes(bytes(5))
    assert weight_bytes(folder) == 5


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=r"lacks 1 of 2 shards of its weights, such as model-00002"):
        find_folder(sharded(tmp_path, present=1))


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_refused(index: str, tmp_path: Path) -> None:
    (sharded(tmp_path) / "model.safetensors.index.json").write_text(index)
    with pytest.raises(EdgespecError, match="copy or download the model again"):
        find_folder(tmp_path)


def test_a_broken_download_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    folder, patterns = sharded(tmp_path, present=1), []

    def download(name: str, *, local_files_only: bool = False, **options: Any) -> str:
        if not local_files_only:
            patterns.extend(options["allow_patterns"])
            sharded(tmp_path)
        return str(folder)

    files = [SimpleNamespace(rfilename=shard) for shard in SHARDS]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=files))
    assert find_folder("some/model") == folder
    assert "model*.safetensors" in patterns


def test_a_broken_download_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: str(sharded(tmp_path, present=1))
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(EdgespecError, match=r"rest of its broken download cannot be fetched .*no route"):
        find_folder("some/model")
