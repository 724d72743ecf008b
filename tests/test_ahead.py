"""Kernels built ahead of time: for any architecture without a GPU, checked when they are loaded, run without Triton."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgespec.core.cuda_driver import CudaDriver
from edgespec.core.errors import EdgespecError
from edgespec.kernels import launching
from edgespec.kernels.binaries import MANIFEST_FILE, Binaries
from edgespec.kernels.launching import source_of
from edgespec.kernels.variants import KERNELS, VARIANTS, Variant

pytest.importorskip("triton")

from edgespec.kernels import ahead

FEW = [
    one
    for one in VARIANTS
    if (one.kernel, one.name) in {("exit_head_finish", "plain"), ("exit_head_parts", "bf16-16-64")}
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
    names = source_of(variant.kernel).arg_names
    constants = {**KERNELS[variant.kernel].constants, **variant.constants}
    assert set(names[len(variant.types.split()) :]) == set(constants)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_hint_is_released_to_the_whole_system_after_all_that_it_says(architecture: int) -> None:
    (variant,) = (one for one in VARIANTS if one.name == "hint")
    compiled = ahead.compile_variant(variant, architecture).asm["ptx"]
    stores, release = compiled.rindex("st.global.b32"), compiled.index("atom.global.sys.release.exch.b32")
    assert stores < compiled.rindex("bar.sync", 0, release) < release


def test_every_architecture_gets_code_of_its_own(built: Path) -> None:
    codes = {(built / f"exit_head_finish.plain.sm{one}.cubin").read_bytes() for one in ARCHITECTURES}
    assert len(codes) == 3 and all(code[:4] == b"\x7fELF" for code in codes)
    for architecture in ARCHITECTURES:
        loaded = Binaries.load(built, architecture=architecture)
        assert [entry.variant for entry in loaded.entries] == FEW


def test_another_architecture_is_refused_with_the_command_that_builds_it(built: Path) -> None:
    with pytest.raises(
        EdgespecError, match=r"for CUDA architectures 80, 87, 90, not for 75: .*build --archs 75"
    ):
        Binaries.load(built, architecture=75)


def test_damaged_code_is_refused(copy: Path) -> None:
    file = copy / "exit_head_finish.plain.sm87.cubin"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(EdgespecError, match="damaged: run `edgespec kernels build --archs 87"):
        Binaries.load(copy, architecture=87)
    Binaries.load(copy, architecture=90)


@pytest.mark.parametrize(
    "manifest", ["", "{}", '{"format_version": 9, "binaries": []}', '{"format_version": 3, "binaries": [1]}']
)
def test_a_manifest_that_is_none_is_refused(copy: Path, manifest: str) -> None:
    (copy / MANIFEST_FILE).write_text(manifest)
    with pytest.raises(EdgespecError, match="edgespec kernels build"):
        Binaries.load(copy, architecture=80)


class Library:
    """What of libcuda is used; remembers the launches, with their arguments as numbers."""

    def __init__(self, types: str) -> None:
        self.types = [C_TYPES[kind] for kind in types.split()]
        self.loaded: list[bytes] = []
        self.launches: list[tuple[tuple[Any, ...], list[Any]]] = []
        self.error = 0

    def cuModuleLoadData(self, module: Any, code: bytes) -> int:
        self.loaded.append(code[:4])
        return self.error

    def cuModuleGetFunction(self, function: Any, module: Any, symbol: bytes) -> int:
        assert symbol == b"exit_head_finish"
        return 0

    def cuLaunchKernel(self, function: Any, *how: Any) -> int:
        *shape, stream, addresses, _ = how
        values = [kind.from_address(at).value for kind, at in zip(self.types, addresses, strict=True)]
        self.launches.append(((*shape, stream.value), values))
        return 0


C_TYPES = {"*": ctypes.c_uint64, "i32": ctypes.c_int32}
FINISH = next(one for one in FEW if one.kernel == "exit_head_finish")
POINTERS = FINISH.types.count("*")
ADDRESSES, NUMBERS = list(range(2**40, 2**40 + POINTERS)), [3, -1, 5, 6, 7, 8]
CONSTANTS = {"ROWS": 8, "KNOTS": 1, "HINT": False}


def launch(kernels: Binaries, **changes: Any) -> None:
    given = {"kernel": FINISH.kernel, "types": FINISH.types, "constants": CONSTANTS, **changes}
    kernels.launch(**given, programs=5, arguments=[*ADDRESSES, *NUMBERS], stream=99)


def test_a_launch_passes_addresses_numbers_and_no_scratch(built: Path) -> None:
    kernels = Binaries.load(built, architecture=87)
    scratch = kernels.entries[-1].scratch_arguments
    library = Library("* " * POINTERS + "i32 " * 6 + "* " * scratch)
    kernels.driver = CudaDriver(library)
    for _ in range(2):
        launch(kernels)
    (shape, values), _ = library.launches
    assert shape[:6] == (5, 1, 1, 128, 1, 1) and shape[-1] == 99
    assert values == [*ADDRESSES, *NUMBERS, *[0] * scratch]
    assert library.loaded == [b"\x7fELF"]  # once for both launches


@pytest.mark.parametrize(
    "changes", [{"kernel": "verify_scan"}, {"types": "*i32"}, {"constants": {**CONSTANTS, "ROWS": 128}}]
)
def test_a_launch_that_no_variant_serves_is_refused(built: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(EdgespecError, match=r"holds no .* install Triton and a C compiler"):
        launch(Binaries.load(built, architecture=80), **changes)


def test_code_that_reads_16_bytes_at_once_is_launched_for_multiples_of_16_alone() -> None:
    scan = next(one for one in VARIANTS if one.kernel == "verify_scan")
    odd, sizes = scan.types.replace("i32:16", "i32"), {"BLOCK": 64, "LISTS": False}
    assert scan.serves(scan.kernel, scan.types, sizes) and not scan.serves(scan.kernel, odd, sizes)
    served = [one for one in VARIANTS if one.serves(scan.kernel, odd, sizes)]
    assert [one.name for one in served] == ["bf16-plain-odd"]
    codes = [ahead.compile_variant(one, 90).asm["ptx"] for one in (scan, *served)]
    assert [".v4.b32" in code for code in codes] == [True, False]


def test_what_a_launch_passes_is_marked_where_it_is_a_multiple_of_16() -> None:
    tensor = torch.zeros(64)
    assert launching.types_of([tensor, tensor[1:], 32, 33, 1.5]) == "*fp32:16 *fp32 i32:16 i32 fp32"


def test_what_varies_from_launch_to_launch_compiles_nothing_new() -> None:
    """Just in time, Triton compiles for each multiple of 16 that it is not told to overlook."""
    for variant in VARIANTS:
        parameters = source_of(variant.kernel).params
        marked = [kind.endswith(":16") for kind in variant.types.split()]
        if any(marked):
            for parameter, is_marked in zip(parameters, marked, strict=False):
                overlooked = parameter.do_not_specialize or parameter.do_not_specialize_on_alignment
                assert is_marked != overlooked, parameter.name


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 63])
def test_launches_of_any_rows_and_lists_are_compiled_alike(rows: int) -> None:
    scan = next(one for one in VARIANTS if (one.kernel, one.name) == ("verify_scan", "bf16-lists"))
    compiled = launching.compiled_as(
        scan.kernel, scan.types, {"BLOCK": 1024 if rows > 2 else 64, "LISTS": True}
    )
    assert compiled == scan
    parts = next(one for one in VARIANTS if one.kernel == "exit_head_parts" and one.constants["ROWS"] >= rows)
    assert launching.compiled_as(parts.kernel, parts.types, {**parts.constants, "ROWS": rows}) == parts


def test_a_call_of_the_driver_that_fails_is_named(built: Path) -> None:
    kernels, library = Binaries.load(built, architecture=80), Library("")
    kernels.driver, library.error = CudaDriver(library), 209
    with pytest.raises(EdgespecError, match="cuModuleLoadData failed with error 209"):
        launch(kernels)


@pytest.mark.parametrize(
    ("triton", "compiler", "found"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_kernels_are_compiled_where_triton_and_a_c_compiler_are(
    triton: bool, compiler: bool, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(launching.shutil, "which", lambda name: "/usr/bin/cc" if compiler else None)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert launching.just_in_time.__wrapped__() is found


def test_without_a_compiler_the_prebuilt_kernels_are_found_for_the_gpu(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (launching.prebuilt, launching.problem_on):
        cached.cache_clear()
    monkeypatch.setattr(launching, "just_in_time", lambda: False)
    monkeypatch.setenv("EDGESPEC_KERNELS", str(built))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: ((8, 7), (7, 5))[index])
    assert launching.problem_on(0) is None and launching.prebuilt(0).entries[0].architecture == 87
    assert "not for 75: run `edgespec kernels build --archs 75" in (launching.problem_on(1) or "")


def test_the_build_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_one, calls = ahead.compile_variant, []

    def fail_at_the_second(variant: Variant, architecture: int) -> Any:
        calls.append(variant)
        if len(calls) == 2:
            raise EdgespecError("the compiler gave up.")
        return compile_one(variant, architecture)

    monkeypatch.setattr(ahead, "compile_variant", fail_at_the_second)
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
