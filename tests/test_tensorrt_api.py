"""Which TensorRT is taken: its oldest version, and a package that is not there. No GPU, no torch."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.tensorrt_engines.tensorrt_api import load_api, network_flags


def test_a_tensorrt_older_than_jetpack_6_1_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.2"))
    with pytest.raises(EdgespecError, match=r"TensorRT 8.6.2 is too old.*flash JetPack 6.1 or newer"):
        load_api("tensorrt")


@pytest.mark.parametrize("version", ["10.0.1", "10.3.0", "11.0.0"])
def test_newer_ones_are_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    api = SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "tensorrt", api)
    assert load_api("tensorrt") is api


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EdgespecError, match=r"cannot be imported here.*--system-site-packages"):
        load_api("tensorrt")


def test_networks_are_strongly_typed_where_that_is_a_choice() -> None:
    choice = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    none = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert (network_flags(choice), network_flags(none)) == (2, 0)
