"""Kernels that were built ahead of time, run through the CUDA driver: where Triton is not installed, as on a Jetson.

A folder holds cubins and a manifest with their hashes; what is damaged, of another format or for another GPU is refused
with the command that builds it again. Needs pycuda, and neither torch nor Triton.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.core.errors import EdgespecError

FORMAT_VERSION = 1
MANIFEST_FILE = "kernels.json"

BUILT = Path(__file__).parent / "built"
"""Where kernels are that were built with edgespec itself."""

SCALARS = {"i32": np.int32, "i64": np.int64, "fp32": np.float32, "fp64": np.float64}


@dataclass(frozen=True)
class Binary:
    """One kernel's code for one architecture. types: of its arguments, a star before those that are addresses."""

    kernel: str
    variant: str
    architecture: int
    file: str
    sha256: str
    symbol: str
    types: tuple[str, ...]
    warps: int
    shared_bytes: int
    scratch_arguments: int


@dataclass
class Binaries:
    """A folder's kernels for one architecture."""

    folder: Path
    architecture: int
    entries: dict[tuple[str, str], Binary]
    _functions: dict[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path = BUILT, *, architecture: int) -> Binaries:
        """The kernels in `folder` for a GPU of compute capability `architecture` (Orin: 87). Raises EdgespecError."""
        again = f"run `edgespec kernels build --archs {architecture} --out {folder}`"
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
            if manifest["format_version"] != FORMAT_VERSION:
                raise EdgespecError(f"the kernels in {folder} are of another version of edgespec: {again}.")
            found = [Binary(**{**entry, "types": tuple(entry["types"])}) for entry in manifest["binaries"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EdgespecError(f"{folder} holds no kernels that can be read ({error}): {again}.") from None
        own = {(one.kernel, one.variant): one for one in found if one.architecture == architecture}
        if not own:
            known = ", ".join(str(one) for one in sorted({one.architecture for one in found})) or "none"
            raise EdgespecError(
                f"the kernels in {folder} are for CUDA architectures {known}, not for {architecture}: {again}."
            )
        for one in own.values():
            if not _is_whole(folder / one.file, one.sha256):
                raise EdgespecError(f"{folder / one.file} is damaged: {again}.")
        return cls(folder, architecture, own)

    def launch(
        self, kernel: str, variant: str, grid: Sequence[int], arguments: Sequence[Any], stream: Any = None
    ) -> None:
        """Run a kernel on the current CUDA context. arguments: device addresses (int) and numbers, in order.

        Raises EdgespecError for a kernel that is not there, or arguments that are not its.
        """
        binary = self.entries.get((kernel, variant))
        if binary is None:
            raise EdgespecError(f"{self.folder} holds no kernel {kernel} {variant}.")
        if len(arguments) != len(binary.types):
            raise EdgespecError(f"{kernel} takes {len(binary.types)} arguments, not {len(arguments)}.")
        packed = [_packed(value, kind) for value, kind in zip(arguments, binary.types, strict=True)]
        packed += [np.uint64(0)] * binary.scratch_arguments
        self._function(binary)(
            *packed,
            grid=(*grid, *[1] * (3 - len(grid))),
            block=(32 * binary.warps, 1, 1),
            shared=binary.shared_bytes,
            stream=stream,
        )

    def _function(self, binary: Binary) -> Any:
        key = (binary.kernel, binary.variant)
        if key not in self._functions:
            import pycuda.driver as cuda

            module = cuda.module_from_buffer((self.folder / binary.file).read_bytes())
            function = module.get_function(binary.symbol)
            if binary.shared_bytes > 48 << 10:
                function.set_attribute(
                    cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, binary.shared_bytes
                )
            self._functions[key] = (module, function)
        return self._functions[key][1]


def _packed(value: Any, kind: str) -> Any:
    return np.uint64(int(value)) if kind.startswith("*") else SCALARS[kind](value)


def _is_whole(file: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
