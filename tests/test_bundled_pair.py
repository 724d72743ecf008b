"""Where the bundled target is: in the sources' package, in the distribution edgespec-pair, or nowhere on a device."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from edgespec.core.errors import EdgespecError
from edgespec.engines import model_folder
from edgespec.model.loading import find_exits


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation from a device's wheel; the folder is on Python's path."""
    monkeypatch.setattr(model_folder, "PAIR_FOLDER", tmp_path / "edgespec" / "pair")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install_pair(site: Path) -> Path:
    target = site / "edgespec_pair" / "target"
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    (target / "model.safetensors").write_bytes(b"")
    (site / "edgespec_pair" / "exits").mkdir()
    return target


@pytest.mark.usefixtures("split")
def test_without_it_a_server_says_what_to_install() -> None:
    assert model_folder.bundled_pair() is None
    with pytest.raises(
        EdgespecError, match="bundled target is not installed: run `pip install edgespec-pair`"
    ):
        model_folder.find_folder(None)


def test_the_distribution_brings_target_and_exits(split: Path) -> None:
    target = install_pair(split)
    assert model_folder.find_folder(None) == target
    assert find_exits("auto", target) == split / "edgespec_pair" / "exits"
