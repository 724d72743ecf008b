"""Builds the Triton kernels ahead of time: variants x architectures -> a folder of cubins with a manifest. No GPU.

`edgespec kernels build`, or EDGESPEC_CUDA_ARCHS="80;87;90" when edgespec itself is built. The same sources as just in
time. Imports Triton; binaries.py loads what this writes, without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.whole_files import save_json, sha256_of, whole_folder
from edgespec.kernels.binaries import FORMAT_VERSION, MANIFEST_FILE
from edgespec.kernels.launching import source_of
from edgespec.kernels.variants import ALIGNED, VARIANTS, WARP, Variant, for_architectures


def parse_architectures(text: str) -> list[int]:
    """ "80;87;90" -> [80, 87, 90]. Raises EdgespecError."""
    try:
        found = sorted({int(one) for one in text.replace(",", ";").split(";")})
    except ValueError:
        found = []
    if not found or not all(70 <= one <= 130 for one in found):
        raise EdgespecError(
            f"{text!r} names no CUDA architectures: give compute capabilities such as 80;87;90 (Orin is 87)."
        )
    return found


def build(
    folder: Path,
    architectures: Sequence[int],
    variants: Sequence[Variant] = VARIANTS,
    report: Callable[[str], Any] = lambda what: None,
) -> Path:
    """Write the binaries into `folder`, all of them or nothing; returns it. Variants are left out for architectures
    that lack their types. report: is told each variant beforehand.

    Raises EdgespecError for an architecture that Triton's compiler does not know.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).is_file():
        raise EdgespecError(f"{folder} holds something else than kernels: name another folder with --out.")
    entries = []
    with whole_folder(folder) as unfinished:
        for variant, architecture in for_architectures(variants, architectures):
            report(f"{variant.kernel} {variant.name} for {architecture}")
            entries.append(_build_one(unfinished, variant, architecture))
        manifest = {"format_version": FORMAT_VERSION, "triton": triton.__version__, "binaries": entries}
        save_json(manifest, unfinished / MANIFEST_FILE)
    return folder


def _build_one(folder: Path, variant: Variant, architecture: int) -> dict[str, Any]:
    """Write one cubin; its entry in the manifest, which is binaries.Binary."""
    compiled = compile_variant(variant, architecture)
    file = f"{variant.kernel}.{variant.name}.sm{architecture}.cubin"
    (folder / file).write_bytes(compiled.asm["cubin"])
    return {
        "variant": asdict(variant),
        "architecture": architecture,
        "file": file,
        "sha256": sha256_of(folder / file),
        "symbol": compiled.metadata.name,
        "warps": variant.number_of_warps(),
        "shared_bytes": compiled.metadata.shared,
        "scratch_arguments": _scratch_arguments(compiled, variant),
    }


def compile_variant(variant: Variant, architecture: int) -> Any:
    """What Triton makes of a variant: `.asm` has its code. Raises EdgespecError."""
    function, constants = source_of(variant.kernel), variant.all_constants()
    passed = dict(zip(function.arg_names, variant.plain_types(), strict=False))
    multiples = [place for place, kind in enumerate(variant.types.split()) if kind.endswith(ALIGNED)]
    attributes = {(place,): [["tt.divisibility", 16]] for place in multiples}
    signature = {**passed, **dict.fromkeys(constants, "constexpr")}
    try:
        source = ASTSource(function, signature, constants, attributes)
        return triton.compile(source, target=GPUTarget("cuda", architecture, WARP), options=variant.options())
    except (RuntimeError, ValueError, KeyError) as error:
        raise EdgespecError(
            f"{variant.kernel} cannot be built for CUDA architecture {architecture} ({first_line(error)})."
        ) from None


def _scratch_arguments(compiled: Any, variant: Variant) -> int:
    """Pointers that Triton appends to a kernel's own arguments; null where a kernel needs no scratch."""
    entry = compiled.asm["ptx"].split(".entry", 1)[1].split(")", 1)[0]
    if compiled.metadata.global_scratch_size or compiled.metadata.profile_scratch_size:
        raise AssertionError(f"{variant.kernel} wants scratch memory")
    return int(entry.count(".param")) - len(variant.types.split())
