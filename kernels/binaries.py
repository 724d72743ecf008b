"""Kernels that were built ahead of time, launched through the CUDA driver without Triton and without a compiler.

A folder holds cubins and a manifest with their hashes; what is damaged, of another format or for another GPU is refused
with the command that builds it again.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgespec.core.cuda_driver import CudaDriver, driver
from edgespec.core.errors import EdgespecError
from edgespec.core.whole_files import sha256_of
from edgespec.kernels.variants import WARP, Variant

FORMAT_VERSION = 3
MANIFEST_FILE = "kernels.json"

BUILT = Path(__file__).parent / "built"
"""Where kernels are that were built with edgespec itself."""

SCALARS: dict[str, Any] = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}


@dataclass(frozen=True)
class Binary:
    """One variant's code for one architecture. scratch_arguments: pointers that Triton adds to the kernel's own."""

    variant: Variant
    architecture: int
    file: str
    sha256: str
    symbol: str
    warps: int
    shared_bytes: int
    scratch_arguments: int

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Binary:
        return cls(**{**entry, "variant": Variant(**entry["variant"])})


@dataclass
class Binaries:
    """A folder's kernels for one architecture, in the order of variants.VARIANTS: the first that serves is the best."""

    folder: Path
    entries: list[Binary]
    driver: CudaDriver | None = None
    _functions: dict[str, Any] = field(default_factory=dict)
    _serving: dict[Any, Binary] = field(default_factory=dict)
    """Found once for launches that are alike."""

    @classmethod
    def load(cls, folder: Path = BUILT, *, architecture: int) -> Binaries:
        """The kernels in `folder` for a GPU of compute capability `architecture` (Orin: 87). Raises EdgespecError."""
        again = f"run `edgespec kernels build --archs {architecture} --out {folder}`"
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            if manifest["format_version"] != FORMAT_VERSION:
                raise EdgespecError(f"the kernels in {folder} are of another version of edgespec: {again}.")
            found = [Binary.from_json(entry) for entry in manifest["binaries"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EdgespecError(f"{folder} holds no kernels that can be read ({error}): {again}.") from None
        own = [one for one in found if one.architecture == architecture]
        if not own:
            known = ", ".join(str(one) for one in sorted({one.architecture for one in found})) or "none"
            raise EdgespecError(
                f"the kernels in {folder} are for CUDA architectures {known}, not for {architecture}: {again}."
            )
        for one in own:
            if not (folder / one.file).is_file() or sha256_of(folder / one.file) != one.sha256:
                raise EdgespecError(f"{folder / one.file} is damaged: {again}.")
        return cls(folder, own)

    def launch(
        self,
        kernel: str,
        types: str,
        constants: Mapping[str, int | bool],
        programs: int,
        arguments: Sequence[int | float],
        stream: int,
    ) -> None:
        """Run the first variant that serves such a launch, on the current CUDA context.

        types, arguments: of the kernel's own arguments, multiples of 16 marked, addresses as ints. Raises EdgespecError
        where none serves it.
        """
        key = kernel, types, tuple(constants.items())
        serving = (one for one in self.entries if one.variant.serves(kernel, types, constants))
        binary = self._serving.get(key) or next(serving, None)
        if binary is None:
            raise EdgespecError(
                f"{self.folder} holds no {kernel} for {types} with {dict(constants)}: install Triton and a C "
                "compiler."
            )
        self._serving[key] = binary
        if self.driver is None:
            self.driver = driver()
        if binary.file not in self._functions:
            code = (self.folder / binary.file).read_bytes()
            self._functions[binary.file] = self.driver.load(code, binary.symbol, binary.shared_bytes)
        words = [
            SCALARS.get(kind, ctypes.c_uint64)(value)
            for kind, value in zip(binary.variant.plain_types(), arguments, strict=True)
        ]
        words += [ctypes.c_uint64(0)] * binary.scratch_arguments
        function, threads = self._functions[binary.file], WARP * binary.warps
        self.driver.launch(function, programs, threads, binary.shared_bytes, stream, words)
