"""The Triton kernels: where their sources are, how they are compiled, and the variants that are built ahead of time.

A variant serves every shape up to its constants: what is beyond a launch's own is masked. Just in time the same
variants are compiled, so that no shape of a forward compiles anything. Plain data without Triton, so that what loads
the binaries needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgespec.core.slots import SLOT_BUCKET

WARP = 32
"""Threads."""

MOST_ROWS = 64
"""Rows of a session that the variants hold."""

HEAD_TILES = (64, 32)
"""Tokens of the LM head that a program multiplies at once."""

HEAD_DEPTH_BYTES = 128
"""Of each of them that it reads at once."""


def head_depth(rows: int, itemsize: int) -> int:
    """Elements of a token of the LM head that are read at once: less for many rows where they are float32, or where the
    rows are twice as wide as an int8 head, so that registers and the shared memory of every architecture hold them."""
    many = (itemsize == 4 and rows > 16) or (itemsize == 1 and rows > 32)
    return HEAD_DEPTH_BYTES // itemsize // (2 if many else 1)


VERIFY_BLOCK, VERIFY_BLOCKS = 1024, 4
"""Tokens of a row that a program of verify holds at once, and how often."""

VERIFY_SIZES = {"BLOCKS": VERIFY_BLOCKS}

VERIFY_ROUNDS = 8

MOST_PARTS = 128
"""Programs that share a row of verify."""

MOST_TOKENS = MOST_PARTS * VERIFY_BLOCK * VERIFY_BLOCKS
"""Of a vocabulary: 524,288."""

CHOICES = ("DEPTH", "HINT", "LISTS", "ROUND", "TILE")
"""Constants that are no sizes."""

PROGRAMS_A_PROCESSOR = 2
"""Of exit_head_parts, that run at once."""

ALIGNED = ":16"
"""Behind an argument's type: it is a multiple of 16."""


LEAST_WIDTH = 64
"""Of a head, padded, in tree_attention."""

HEAD_WIDTHS, ROW_WIDTHS = (LEAST_WIDTH, 128, 256), (4096, 8192)
"""That heads are padded to in tree_attention, and rows in residual_norm. Wider ones run without these kernels."""

ATTENTION_BLOCK_BYTES = 64 * 128 * 2
"""Of the keys that tree_attention reads at once: 64 slots of heads of 128 in halves."""

FLOAT8, FLOAT8_ARCHITECTURE = "fp8e4nv", 89
"""Triton's name of the 8-bit floats that a pool may hold, and the first CUDA architecture that reads them."""

JOINED = 4
"""Queries of a program that joins tree_attention's items."""


GATED_BLOCK = 1024
"""Columns of a program that multiplies gate and up."""

TURNED_PARTS = 4
"""Heads of a program of rotary_write."""


@dataclass(frozen=True)
class Kernel:
    """One Triton function. source: its module in edgespec.kernels; the function has the kernel's name. constants: that
    are the same in every launch. registers: of a thread, at most; None: the compiler trades them for spills."""

    source: str
    warps: int
    constants: Mapping[str, int | bool]
    stages: int = 3
    registers: int | None = None


KERNELS = {
    "exit_head_rows": Kernel("exit_head_triton", 4, {"WIDTH": 1024}),
    "exit_head_parts": Kernel("exit_head_triton", 4, {}, stages=4, registers=255),
    "exit_head_finish": Kernel("exit_head_triton", 4, {"PROGRAMS": 32}),
    "tree_attention_parts": Kernel("tree_attention_triton", 8, {"PAGE": SLOT_BUCKET}),
    "residual_norm": Kernel("layer_triton", 8, {}),
    "rotary_write": Kernel("layer_triton", 1, {"PARTS": TURNED_PARTS}, registers=255),
    "gated": Kernel("layer_triton", 4, {"BLOCK": GATED_BLOCK}),
    "tree_attention_join": Kernel("tree_attention_triton", 2, {"JOINED": JOINED}, registers=255),
    "verify_scan": Kernel("verify_triton", 4, {"LIST": 256, **VERIFY_SIZES}),
    "verify_round": Kernel("verify_rounds_triton", 4, VERIFY_SIZES),
    "verify_choose": Kernel("verify_triton", 4, {"ROWS": MOST_ROWS, **VERIFY_SIZES}, registers=168),
}


@dataclass(frozen=True)
class Variant:
    """One kernel with its other constants fixed. types: of its arguments, in order, as Triton names them; `:16` behind
    one says that it is a multiple of 16, so that 16 bytes are read at once. warps, registers: 0 for the kernel's
    own."""

    kernel: str
    name: str
    types: str
    constants: Mapping[str, int | bool] = field(hash=False)
    warps: int = 0
    registers: int = 0

    def serves(self, kernel: str, types: str, constants: Mapping[str, int | bool]) -> bool:
        """Whether it can be launched so: choices are the same, sizes at most its own, and what it takes for multiples
        of 16 is that. types: of the arguments of the launch, each multiple marked."""
        given, wanted = types.split(), self.types.split()
        return (
            kernel == self.kernel
            and len(given) == len(wanted)
            and all(one in (want, f"{want}{ALIGNED}") for one, want in zip(given, wanted, strict=True))
            and all(
                own == constants[name] if name in CHOICES else own >= constants[name]
                for name, own in self.constants.items()
            )
        )

    def runs_on(self, architecture: int) -> bool:
        """Whether a GPU of this compute capability has all its types."""
        return architecture >= FLOAT8_ARCHITECTURE or FLOAT8 not in self.types

    def plain_types(self) -> list[str]:
        """The types without what they say of multiples."""
        return [kind.removesuffix(ALIGNED) for kind in self.types.split()]

    def number_of_warps(self) -> int:
        return self.warps or KERNELS[self.kernel].warps

    def all_constants(self) -> dict[str, int | bool]:
        """Those of its kernel, and its own."""
        return {**KERNELS[self.kernel].constants, **self.constants}

    def options(self) -> dict[str, Any]:
        """Of the compiler. No products are fused with sums, so that the noise is the same bits as on the CPU."""
        how = KERNELS[self.kernel]
        registers = self.registers or how.registers
        most = {} if registers is None else {"maxnreg": registers}
        return {
            "num_warps": self.number_of_warps(),
            "num_stages": how.stages,
            "enable_fp_fusion": False,
            **most,
        }


def slots_at_once(width: int, itemsize: int) -> int:
    """Slots whose keys and values tree_attention reads at once: they fit into shared memory, several times over, on
    every GPU."""
    return max(16, min(64, ATTENTION_BLOCK_BYTES // (width * itemsize)))


def _variants() -> Iterator[Variant]:
    for dtype, itemsize in (("bf16", 2), ("fp16", 2), ("fp32", 4)):
        aligned = f"*{dtype}:16"
        yield Variant("exit_head_rows", dtype, f"{aligned} {aligned} {aligned} i32:16 fp32", {})
        yield from _head_variants(dtype, aligned, aligned, itemsize)
        if itemsize == 2:
            yield from _head_variants(f"{dtype}-i8", aligned, f"*i8{ALIGNED}", 1)
    types = "*fp32 *i32 *fp32 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 i32 i32 i32 i32 i32 i32"
    for name in ("plain", "hint"):
        sizes = {"ROWS": MOST_ROWS, "KNOTS": 64, "HINT": name == "hint"}
        yield Variant("exit_head_finish", name, types, sizes)
    yield from _verify_variants()
    yield from _attention_variants()
    yield from _layer_variants()


def _head_variants(name: str, hidden: str, head: str, itemsize: int) -> Iterator[Variant]:
    """itemsize: of the head."""
    types = f"{hidden} {head} *fp32 *fp32 *i64 *i32 *fp32 i32 i32:16 i32 fp32 fp32"
    for rows in (16, 32, 64):
        for tile in HEAD_TILES:
            sizes = {"ROWS": rows, "TILE": tile, "DEPTH": head_depth(rows, itemsize)}
            # Eight warps would read a tile of 32 tokens in float32 by 8 bytes a thread. With 64 rows they do: the rows'
            # reads have 16 bytes, and what reads the head by as many spills.
            few = (rows == 16 and itemsize < 4) or (rows, tile, itemsize) == (32, 32, 4)
            warps = 4 if few else 8
            yield Variant("exit_head_parts", f"{name}-{rows}-{tile}", types, sizes, warps)


def _verify_variants() -> Iterator[Variant]:
    sizes = {"BLOCK": VERIFY_BLOCK}
    joined = {**sizes, "PARTS": MOST_PARTS}
    for dtype in ("bf16", "fp16", "fp32"):
        logits = f"*{dtype}:16 *fp32:16"
        types = f"{logits} *i32 *fp64 *fp64 *i32 *i32 *i32 *i32 *fp32 *i32 *fp32 *fp32 *fp32 i32 i32:16 i32"
        for lists in (False, True):
            name = f"{dtype}-{'lists' if lists else 'plain'}"
            yield from _either(Variant("verify_scan", name, types, {**sizes, "LISTS": lists}))
        types = (
            f"{logits} *i32 *i32 *i32 *i32 *fp64 *fp64 *i64 *i32 *fp32 *fp32 *fp32 *i64 *i64 *fp32 *fp32 *i32"
            " *i32 *i32 *i32 *i32 *i32 *fp32 *fp32 i32:16 i32 i32 i32 i32"
        )
        yield from _either(Variant("verify_choose", dtype, types, joined))
    types = "*fp32:16 *fp64 *i32 *fp64 *i32 *fp32 *i64 *i64 i32:16 i32 i32"
    for number in range(VERIFY_ROUNDS):
        yield from _either(Variant("verify_round", str(number), types, {**joined, "ROUND": number}))


def _attention_variants() -> Iterator[Variant]:
    for dtype, itemsize in (("bf16", 2), ("fp16", 2), ("fp32", 4)):
        rows = f"*{dtype}:16"
        for width in HEAD_WIDTHS:
            yield from _parts_variants(dtype, rows, rows, width, itemsize)
            if itemsize == 2:  # in float32 it would spill
                yield from _parts_variants(f"{dtype}-f8", rows, f"*{FLOAT8}:16", width, itemsize)
            types = f"*fp32:16 *fp32:16 *fp32:16 *i32:16 *i32:16 {rows} i32 i32 i32:16 i32:16"
            yield from _either(Variant("tree_attention_join", f"{dtype}-{width}", types, {"WIDTH": width}))


def _parts_variants(name: str, rows: str, pool: str, width: int, itemsize: int) -> Iterator[Variant]:
    """itemsize: of the rows, which keys and values are widened to."""
    types = (
        f"{rows} {pool} {pool} *i32:16 *i32:16 *i32:16 *i32:16 *fp32:16 *fp32:16"
        " i32 i32:16 i32 i32 i32:16 i32:16 i32:16 fp32 fp32"
    )
    for queries in (16, 64 if itemsize == 2 else 32):
        sizes = {"QUERIES": queries, "WIDTH": width, "SLOTS": slots_at_once(width, itemsize)}
        small = width * itemsize <= 512 if queries == 16 else (width, queries) == (64, 64)
        least = (width, queries) == (64, 16)
        # Left to itself, the compiler spills for one more block on a processor where it widens what it reads.
        variant = Variant(
            "tree_attention_parts", f"{name}-{width}-{queries}", types, sizes, 4 if small else 8,
            registers=168 if least and pool != rows else 0,
        )  # fmt: skip
        if least and itemsize == 4:
            yield variant  # for odd arguments it would spill on sm_80: the one of 32 queries serves them
        else:
            yield from _either(variant, 176 if least else 0)


def _layer_variants() -> Iterator[Variant]:
    for dtype in ("bf16", "fp16", "fp32"):
        rows = f"*{dtype}:16"
        types = " ".join([*[rows] * 6, "i32:16 i32 i32 i32 fp32"])
        for width in ROW_WIDTHS:
            yield from _either(Variant("residual_norm", f"{dtype}-{width}", types, {"BLOCK": width}))
        yield from _rotary_variants(dtype, rows, rows)
        if dtype != "fp32":
            yield from _rotary_variants(f"{dtype}-f8", rows, f"*{FLOAT8}:16")
        yield from _either(Variant("gated", dtype, f"{rows} {rows} i32:16 i32", {}))


def _rotary_variants(name: str, rows: str, pool: str) -> Iterator[Variant]:
    given = f"{rows} {rows} {rows} *i64:16 {rows} {rows} {rows} {pool} {pool}"
    types = f"{given} i32 i32 i32:16 i32:16 i32 i32 fp32"
    for half in (64, 128):
        yield from _either(Variant("rotary_write", f"{name}-{2 * half}", types, {"HALF": half}))


def _either(variant: Variant, odd_registers: int = 0) -> Iterator[Variant]:
    """For arguments that are multiples of 16, and for others: these need more registers where the compiler, left to
    itself, spills for one more block on a processor."""
    yield variant
    odd = replace(variant, name=f"{variant.name}-odd", registers=odd_registers or variant.registers)
    yield replace(odd, types=" ".join(variant.plain_types()))


def divided(vocabulary: int, at_once: int) -> tuple[int, int]:
    """(tokens of a tile, programs) for an LM head shared by `at_once` programs: the tile that leaves the fewest of them
    without work at the end; of two alike the larger."""
    tile = min(HEAD_TILES, key=lambda one: (tail_share(vocabulary, one, at_once), -one))
    return tile, min(-(-vocabulary // tile), at_once)


def tail_share(vocabulary: int, tile: int, at_once: int) -> float:
    """The share of the programs' time in which there is no tile left for them."""
    tiles = -(-vocabulary // tile)
    turns = -(-tiles // at_once)
    return 1 - vocabulary / (turns * at_once * tile)


VARIANTS = tuple(_variants())


def for_architectures(variants: Sequence[Variant], architectures: Sequence[int]) -> list[tuple[Variant, int]]:
    """Each variant with each of the architectures that it runs on."""
    return [(one, on) for one in variants for on in architectures if one.runs_on(on)]
