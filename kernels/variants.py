"""The Triton kernels: where their sources are, how they are compiled, and the variants that are built ahead of time.

A variant serves every shape up to its constants: what is beyond a launch's own is masked. Plain data without Triton, so
that what loads the binaries needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgespec.core.slots import SLOT_BUCKET

MOST_ROWS = 64
"""Rows of a session that the variants hold."""

HEAD_TILE = 64
"""Tokens of the LM head that a program multiplies at once."""


LEAST_WIDTH = 64
"""Of a head, padded, in tree_attention."""

ATTENTION_BLOCK_BYTES = 64 * 128 * 2
"""Of the keys that tree_attention reads at once: 64 slots of heads of 128 in halves."""

JOINED = 4
"""Queries of a program that joins tree_attention's items."""


@dataclass(frozen=True)
class Kernel:
    """One Triton function. source: its module in edgespec.kernels; the function has the kernel's name. constants: that
    are the same in every launch."""

    source: str
    warps: int
    constants: Mapping[str, int | bool]
    stages: int = 3


KERNELS = {
    "exit_head_parts": Kernel("exit_head_triton", 4, {"TILE": HEAD_TILE, "DEPTH": 64}, stages=4),
    "exit_head_finish": Kernel("exit_head_triton", 4, {"PROGRAMS": 32}),
    "tree_attention_parts": Kernel("tree_attention_triton", 8, {"PAGE": SLOT_BUCKET}),
    "tree_attention_join": Kernel("tree_attention_triton", 4, {"JOINED": JOINED}),
    "verify_rows": Kernel("verify_triton", 8, {"LIST": 256}),
}


@dataclass(frozen=True)
class Variant:
    """One kernel with its other constants fixed. types: of its arguments, in order, as Triton names them."""

    kernel: str
    name: str
    types: str
    constants: Mapping[str, int | bool] = field(hash=False)

    def serves(self, kernel: str, types: str, constants: Mapping[str, int | bool]) -> bool:
        """Whether it can be launched so: flags are the same, and sizes at most its own."""
        return (kernel, types) == (self.kernel, self.types) and all(
            own == constants[name] if isinstance(own, bool) else own >= constants[name]
            for name, own in self.constants.items()
        )


def _variants() -> Iterator[Variant]:
    for dtype in ("bf16", "fp16", "fp32"):
        types = f"*{dtype} *{dtype} *{dtype} *fp32 *i64 *i32 *fp32 i32 i32 i32 fp32 fp32 fp32"
        for rows in (16, 32, 64):
            yield Variant("exit_head_parts", f"{dtype}-{rows}", types, {"ROWS": rows})
    types = "*fp32 *i32 *fp32 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 i32 i32 i32 i32 i32 i32"
    for name in ("plain", "hint"):
        sizes = {"ROWS": MOST_ROWS, "KNOTS": 64, "HINT": name == "hint"}
        yield Variant("exit_head_finish", name, types, sizes)
    samplings, lists = "*fp64 *i32 *fp64 *fp64 *fp64 *i64", "*i32 *i32 *i32 *i32 *fp32"
    out = "*i32 *fp32 *fp32 *i32 *i32 *i32 *i32 *fp32 *fp32"
    for dtype in ("bf16", "fp16", "fp32"):
        types = f"*{dtype} *fp32 *i32 *i32 *i32 *i32 {samplings} {lists} {out} i32 i32 i32"
        for name in ("plain", "lists"):
            sizes = {"ROWS": MOST_ROWS, "BLOCK": 4096, "LISTS": name == "lists"}
            yield Variant("verify_rows", f"{dtype}-{name}", types, sizes)
    for dtype, itemsize in (("bf16", 2), ("fp16", 2), ("fp32", 4)):
        for width in (64, 128, 256):
            slots = max(16, min(64, ATTENTION_BLOCK_BYTES // (width * itemsize)))
            types = f"*{dtype} *{dtype} *{dtype} *i32 *i32 *i32 *i32 *fp32 *fp32" + " i32" * 7 + " fp32 fp32"
            for queries in (16, 32) if width * itemsize > 512 else (16, 64):
                sizes = {"QUERIES": queries, "WIDTH": width, "SLOTS": slots}
                yield Variant("tree_attention_parts", f"{dtype}-{width}-{queries}", types, sizes)
            types = f"*fp32 *fp32 *fp32 *i32 *i32 *{dtype} i32 i32 i32 i32"
            yield Variant("tree_attention_join", f"{dtype}-{width}", types, {"WIDTH": width})


VARIANTS = tuple(_variants())
