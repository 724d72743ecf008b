"""Kernels built ahead of time: for any architecture without a GPU, checked when they are loaded, run without Triton."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgespec.core.errors import EdgespecError
from edgespec.kernels.binaries import MANIFEST_FILE, Binaries
from edgespec.kernels.variants import VARIANTS, Variant

pytest.importorskip("triton")

from edgespec.kernels import ahead

FEW = [
    one
    for one in VARIANTS
    if (one.kernel, one.name) in {("exit_verdict", "plain"), ("exit_head_parts", "bf16-16")}
]
ARCHITECTURES = [80, 87, 90]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ahead.build(tmp_path_factory.mktemp("kernels") / "built", ARCHITECTURES, FEW)


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in built.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: f"{one.kernel}-{one.name}")
def test_the_variants_describe_the_kernels_arguments(variant: Variant) -> None:
    names = ahead.SOURCES[variant.kernel].arg_names
    assert names[len(variant.types) :] == list(variant.constants)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_hint_is_released_to_the_whole_system_after_all_that_it_says(architecture: int) -> None:
    (variant,) = (one for one in VARIANTS if one.name == "publish")
    compiled = ahead._compile(variant, architecture).asm["ptx"]
    stores, release = compiled.rindex("st.global.b32"), compiled.index("atom.global.sys.release.exch.b32")
    assert stores < compiled.rindex("bar.sync", 0, release) < release


def test_every_architecture_gets_code_of_its_own(built: Path) -> None:
    codes = {(built / f"exit_verdict.plain.sm{one}.cubin").read_bytes() for one in ARCHITECTURES}
    assert len(codes) == 3 and all(code[:4] == b"\x7fELF" for code in codes)
    for architecture in ARCHITECTURES:
        loaded = Binaries.load(built, architecture=architecture)
        assert set(loaded.entries) == {(one.kernel, one.name) for one in FEW}


def test_another_architecture_is_refused_with_the_command_that_builds_it(built: Path) -> None:
    with pytest.raises(
        EdgespecError, match=r"for CUDA architectures 80, 87, 90, not for 75: .*build --archs 75"
    ):
        Binaries.load(built, architecture=75)


def test_damaged_code_is_refused(copy: Path) -> None:
    file = copy / "exit_verdict.plain.sm87.cubin"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(EdgespecError, match="damaged: run `edgespec kernels build --archs 87"):
        Binaries.load(copy, architecture=87)
    Binaries.load(copy, architecture=90)


@pytest.mark.parametrize(
    "manifest", ["", "{}", '{"format_version": 9, "binaries": []}', '{"format_version": 1, "binaries": [1]}']
)
def test_a_manifest_that_is_none_is_refused(copy: Path, manifest: str) -> None:
    (copy / MANIFEST_FILE).write_text(manifest)
    with pytest.raises(EdgespecError, match="edgespec kernels build"):
        Binaries.load(copy, architecture=80)


class Driver(SimpleNamespace):
    """What of pycuda.driver is used; remembers the launches."""

    def __init__(self) -> None:
        super().__init__(launches=[], function_attribute=SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES=8))

    def module_from_buffer(self, code: bytes) -> Any:
        return SimpleNamespace(get_function=lambda symbol: self._function(code, symbol))

    def _function(self, code: bytes, symbol: str) -> Any:
        assert code[:4] == b"\x7fELF"
        return lambda *arguments, **how: self.launches.append((symbol, arguments, how))


def test_a_launch_passes_addresses_numbers_and_no_scratch(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    kernels = Binaries.load(built, architecture=87)
    kernels.launch("exit_verdict", "plain", [5], [*range(1000, 1012), 40, 7])
    symbol, arguments, how = driver.launches[0]
    assert symbol == "exit_verdict"
    assert arguments[:14] == (*range(1000, 1012), 40, 7)
    assert [type(one) for one in arguments] == [np.uint64] * 12 + [np.int32] * 2 + [np.uint64] * 2
    assert arguments[14:] == (0, 0)
    assert how["grid"] == (5, 1, 1) and how["block"] == (128, 1, 1)


def test_a_launch_with_other_arguments_is_refused(built: Path) -> None:
    kernels = Binaries.load(built, architecture=80)
    with pytest.raises(EdgespecError, match="takes 14 arguments, not 1"):
        kernels.launch("exit_verdict", "plain", [1], [0])
    with pytest.raises(EdgespecError, match="holds no kernel verify_rows"):
        kernels.launch("verify_rows", "bf16-plain", [1], [0])


def test_the_build_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_one, calls = ahead._compile, []

    def fail_at_the_second(variant: Variant, architecture: int) -> Any:
        calls.append(variant)
        if len(calls) == 2:
            raise EdgespecError("the compiler gave up.")
        return compile_one(variant, architecture)

    monkeypatch.setattr(ahead, "_compile", fail_at_the_second)
    with pytest.raises(EdgespecError, match="gave up"):
        ahead.build(tmp_path / "kernels", [80], FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EdgespecError, match="something else than kernels"):
        ahead.build(tmp_path, [80], FEW)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_manifest_names_what_built_it(built: Path) -> None:
    manifest = json.loads((built / MANIFEST_FILE).read_text())
    assert manifest["triton"] and len(manifest["binaries"]) == len(FEW) * len(ARCHITECTURES)


@pytest.mark.parametrize(("text", "found"), [("80;87;90", [80, 87, 90]), ("90,80", [80, 90]), (" 87 ", [87])])
def test_architectures_are_read(text: str, found: list[int]) -> None:
    assert ahead.parse_architectures(text) == found


@pytest.mark.parametrize("text", ["", "orin", "8.7", "12;80"])
def test_architectures_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(EdgespecError, match="Orin is 87"):
        ahead.parse_architectures(text)
