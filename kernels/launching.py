"""Starts a Triton kernel: compiled just in time where Triton and a C compiler are, else from a prebuilt binary.

Triton compiles a stub in C for each kernel, so it needs a compiler beside itself. `edgespec kernels build` makes the
binaries; they are looked for in the folder that EDGESPEC_KERNELS names, or in edgespec itself.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from edgespec.core.errors import EdgespecError
from edgespec.kernels.binaries import BUILT, Binaries
from edgespec.kernels.variants import ALIGNED, KERNELS, VARIANTS, Variant

TYPES: dict[Any, str] = {
    torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16",
    torch.float8_e4m3fn: "*fp8e4nv", torch.int64: "*i64", torch.int32: "*i32", torch.int8: "*i8", int: "i32",
    float: "fp32",
}  # fmt: skip
"""What Triton calls an argument's type."""


def launch(
    kernel: str,
    programs: int,
    arguments: Sequence[Any],
    constants: Mapping[str, int | bool],
    device: torch.device,
) -> None:
    """Run `programs` programs of a kernel of variants.KERNELS on the device's current stream.

    arguments: tensors, ints and floats in the kernel's order. constants: its constexpr arguments. Raises EdgespecError
    where the kernel is neither compiled here nor built before.
    """
    types = types_of(arguments)
    if just_in_time():
        variant = compiled_as(kernel, types, constants)
        source_of(kernel)[(programs,)](*arguments, **variant.all_constants(), **variant.options())
        return
    words = [one.data_ptr() if isinstance(one, torch.Tensor) else one for one in arguments]
    stream = torch.cuda.current_stream(device).cuda_stream
    prebuilt(device.index or 0).launch(kernel, types, constants, programs, words, stream)


def compile_all(variants: Sequence[Variant], title: str) -> None:
    """Compile these just in time, for the current CUDA device, so that no launch has to; those on Triton's disk cache
    take no time. A bar says how far it is."""
    for variant in tqdm(variants, title, disable=not sys.stderr.isatty(), leave=False):
        given = [_like(kind) for kind in variant.types.split()]
        source_of(variant.kernel).warmup(*given, grid=(1,), **variant.all_constants(), **variant.options())


def _like(kind: str) -> Any:
    """An argument of this type, as Triton's compiler tells arguments apart."""
    plain = kind.removesuffix(ALIGNED)
    found = next(own for own, name in TYPES.items() if name == plain)
    if isinstance(found, torch.dtype):
        return found
    return found(16 if kind.endswith(ALIGNED) else 3)


def types_of(arguments: Sequence[Any]) -> str:
    """The arguments' types as a variant names them, with those marked that are multiples of 16."""
    return _named(
        tuple(
            (one.dtype, one.data_ptr() & 15 == 0)
            if isinstance(one, torch.Tensor)
            else (type(one), type(one) is int and one & 15 == 0)
            for one in arguments
        )
    )


@lru_cache(maxsize=4096)
def _named(kinds: tuple[tuple[Any, bool], ...]) -> str:
    return " ".join(TYPES[kind] + ALIGNED * multiple for kind, multiple in kinds)


def compiled_as(kernel: str, types: str, constants: Mapping[str, int | bool]) -> Variant:
    """The variant that a launch is compiled as just in time; one of its own where none is large enough, and in the
    interpreter, which pays for what is masked."""
    found = None if interpreted() else _serving(kernel, types, tuple(constants.items()))
    return found or Variant(kernel, "own", types, constants)


@lru_cache(maxsize=4096)
def _serving(kernel: str, types: str, constants: tuple[tuple[str, int | bool], ...]) -> Variant | None:
    """Found once for launches that are alike: there are some hundred variants, and ten launches a forward."""
    return next((one for one in VARIANTS if one.serves(kernel, types, dict(constants))), None)


def source_of(kernel: str) -> Any:
    """The Triton function of a kernel; imports Triton."""
    return getattr(importlib.import_module(f"edgespec.kernels.{KERNELS[kernel].source}"), kernel)


def triton_version() -> str | None:
    """None: it is not installed."""
    return version("triton") if find_spec("triton") is not None else None


@lru_cache
def just_in_time() -> bool:
    """Whether kernels can be compiled when they are first launched."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    return find_spec("triton") is not None and (interpreted() or any(map(shutil.which, compilers)))


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@lru_cache
def prebuilt(index: int) -> Binaries:
    """The prebuilt kernels for the CUDA device of this number. Raises EdgespecError where there are none."""
    major, minor = torch.cuda.get_device_capability(index)
    folder = Path(os.environ.get("EDGESPEC_KERNELS", BUILT))
    return Binaries.load(folder, architecture=10 * major + minor)


@lru_cache
def problem_on(index: int) -> str | None:
    """Why no kernel can be launched on the CUDA device of this number; None where they can."""
    if just_in_time():
        return None
    try:
        prebuilt(index)
    except EdgespecError as error:
        return f"no Triton with a C compiler here, and {error}"
    return None


def power_of_2(size: int) -> int:
    """The least power of 2 that is at least `size`."""
    return 1 << (size - 1).bit_length()
