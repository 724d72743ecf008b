"""Builds the Triton kernels ahead of time: variants x architectures -> a folder of cubins with a manifest. No GPU.

`edgespec kernels build`, or EDGESPEC_CUDA_ARCHS="80;87;90" when edgespec itself is built. The same sources as just in
time. Imported only where Triton is; binaries.py loads what this writes, without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from edgespec.core.errors import EdgespecError
from edgespec.core.folder import whole_folder
from edgespec.core.json_file import save_json
from edgespec.kernels import exit_head_triton, exit_verdict_triton, verify_triton
from edgespec.kernels.binaries import FORMAT_VERSION, MANIFEST_FILE
from edgespec.kernels.philox_triton import NO_FUSION
from edgespec.kernels.variants import VARIANTS, Variant

SOURCES = {
    "exit_head_parts": exit_head_triton.exit_head_parts,
    "exit_head_finish": exit_head_triton.exit_head_finish,
    "exit_verdict": exit_verdict_triton.exit_verdict,
    "verify_rows": verify_triton.verify_rows,
}

WARP = 32


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
    """Write the binaries into `folder`, whole or not at all; returns it. report: is told each variant as it is built.

    Raises EdgespecError for an architecture that Triton's compiler does not know.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).is_file():
        raise EdgespecError(f"{folder} holds something else than kernels: name another folder with --out.")
    entries = []
    with whole_folder(folder) as unfinished:
        for architecture in architectures:
            for variant in variants:
                report(f"{variant.kernel} {variant.name} for {architecture}")
                compiled = _compile(variant, architecture)
                cubin: bytes = compiled.asm["cubin"]
                file = f"{variant.kernel}.{variant.name}.sm{architecture}.cubin"
                (unfinished / file).write_bytes(cubin)
                entries.append(
                    {
                        "kernel": variant.kernel,
                        "variant": variant.name,
                        "architecture": architecture,
                        "file": file,
                        "sha256": hashlib.sha256(cubin).hexdigest(),
                        "symbol": compiled.metadata.name,
                        "types": list(variant.types),
                        "warps": variant.num_warps,
                        "shared_bytes": compiled.metadata.shared,
                        "scratch_arguments": _scratch_arguments(compiled, variant),
                    }
                )
        manifest = {"format_version": FORMAT_VERSION, "triton": triton.__version__, "binaries": entries}
        save_json(manifest, unfinished / MANIFEST_FILE)
    return folder


def _compile(variant: Variant, architecture: int) -> Any:
    function = SOURCES[variant.kernel]
    passed = dict(zip(function.arg_names, variant.types, strict=False))
    constants = {
        name: getattr(tl, {"fp32": "float32"}[value]) if name == "SCORE" else value
        for name, value in variant.constants.items()
    }
    signature = {**passed, **dict.fromkeys(variant.constants, "constexpr")}
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages, **NO_FUSION}
    try:
        return triton.compile(
            ASTSource(function, signature, constants),
            target=GPUTarget("cuda", architecture, WARP),
            options=options,
        )
    except (RuntimeError, ValueError, KeyError) as error:
        raise EdgespecError(
            f"{variant.kernel} cannot be built for CUDA architecture {architecture} "
            f"({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__})."
        ) from None


def _scratch_arguments(compiled: Any, variant: Variant) -> int:
    """Pointers that Triton appends to a kernel's own arguments; null where a kernel needs no scratch."""
    entry = compiled.asm["ptx"].split(".entry", 1)[1].split(")", 1)[0]
    if compiled.metadata.global_scratch_size or compiled.metadata.profile_scratch_size:
        raise AssertionError(f"{variant.kernel} wants scratch memory")
    return int(entry.count(".param")) - len(variant.types)
