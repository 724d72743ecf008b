"""What a compiled kernel takes of a GPU, and what it may take: no spills, shared memory that fits, 16-byte loads.

Read from the code that Triton's compiler makes, so it needs no GPU. `edgespec kernels budgets` prints it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton

from edgespec.core.errors import EdgespecError
from edgespec.kernels.ahead import compile_variant
from edgespec.kernels.variants import ALIGNED, WARP, Variant

SHARED_BYTES = {80: 166_912, 86: 101_376, 87: 166_912, 89: 101_376, 90: 232_448}
"""That a block may have, by architecture."""

REGISTERS = 65_536
"""Of a processor."""

ALIGNED_POINTER = re.compile(rf"\*\w+{ALIGNED}").fullmatch

USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")

WIDE_LOAD = re.compile(
    r"ld\.global[^;]*\.v4\.b32|ld\.global[^;]*\.v2\.b64|cp\.async\.cg\.shared\.global[^;]*, 0x10"
)


@dataclass(frozen=True)
class Resources:
    """registers: of a thread. spilled_bytes: of a thread, in local memory. shared_bytes: of a block. wide_loads:
    instructions in the code that read 16 bytes a thread."""

    variant: Variant
    architecture: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    wide_loads: int

    @classmethod
    def of(cls, variant: Variant, architecture: int) -> Resources:
        """Compile it and look. Raises EdgespecError."""
        compiled = compile_variant(variant, architecture)
        registers, stack, local = map(int, _usage(compiled.asm["cubin"]))
        wide = len(WIDE_LOAD.findall(compiled.asm["ptx"]))
        return cls(variant, architecture, registers, stack + local, compiled.metadata.shared, wide)

    @property
    def blocks(self) -> int:
        """Blocks that run on a processor at once, by registers and shared memory."""
        threads = self.variant.number_of_warps() * WARP
        by_registers = REGISTERS // max(1, threads * -(-self.registers // 8) * 8)
        return min(by_registers, SHARED_BYTES[self.architecture] // max(1, self.shared_bytes + 1024))

    def broken(self) -> Iterator[str]:
        """The budgets that it breaks."""
        if self.spilled_bytes:
            yield f"it spills {self.spilled_bytes} bytes a thread"
        if self.shared_bytes > SHARED_BYTES[self.architecture]:
            yield f"it needs {self.shared_bytes} bytes of shared memory of {SHARED_BYTES[self.architecture]}"
        if not self.blocks:
            yield "no processor holds a block of it"
        if any(map(ALIGNED_POINTER, self.variant.types.split())) and not self.wide_loads:
            yield "it never reads 16 bytes at once"


def _usage(cubin: bytes) -> Any:
    """Registers, stack and local memory, as cuobjdump, which comes with Triton, reads them. Raises EdgespecError."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        raise EdgespecError(f"{tool} is missing: install Triton from its wheel.")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False
        )
    found = USAGE.search(done.stdout + done.stderr)
    if found is None:
        raise EdgespecError(
            f"cuobjdump says nothing of registers ({(done.stderr or done.stdout).strip()[:80]})."
        )
    return found.groups()
