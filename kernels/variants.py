"""The kernels that are built ahead of time: their arguments' types and the constants that each variant fixes.

A variant serves every shape up to its constants: rows beyond a launch's own are masked. Plain data: no Triton here, so
that what loads the binaries needs none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_ROWS = 64
"""Rows of a session, and sessions of a launch, that the variants hold."""

KNOTS = 64

HALVES_AND_SINGLE = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class Variant:
    """One kernel with its constants fixed. types: of the arguments that are passed, in order, as Triton names them."""

    kernel: str
    name: str
    types: tuple[str, ...]
    constants: dict[str, Any] = field(hash=False)
    num_warps: int = 4
    num_stages: int = 3


def _exit_head_parts(dtype: str, rows: int) -> Variant:
    types = (f"*{dtype} " * 3 + "*fp32 *i64 *i32 *i32 *fp32 i32 i32 i32 fp32 fp32 fp32").split()
    constants = {"ROWS": rows, "TILE": 64, "DEPTH": 64, "WIDEN": False}
    return Variant("exit_head_parts", f"{dtype}-{rows}", tuple(types), constants, num_stages=4)


def _exit_head_finish(name: str) -> Variant:
    types = (
        "*fp32 *i32 *i32 "
        + "*fp32 " * 4
        + "*i8 *i8 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 *i32 *fp32 *i32 *i32 "
    )
    constants = {
        "ROWS": MOST_ROWS,
        "PROGRAMS": 32,
        "KNOTS": KNOTS,
        "WALK": name != "plain",
        "PUBLISH": name == "publish",
    }
    return Variant("exit_head_finish", name, (*types.split(), *["i32"] * 7), constants)


def _exit_verdict() -> Variant:
    types = "*i32 *fp32 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 *i32 *fp32 i32 i32"
    return Variant("exit_verdict", "plain", tuple(types.split()), {"ROWS": MOST_ROWS, "KNOTS": KNOTS})


def _verify_rows(dtype: str, lists: bool) -> Variant:
    types = (
        f"*{dtype} *fp32 *i32 *i32 *i32 *i32 *fp64 *i32 *fp64 *fp64 *fp64 *i64 "
        "*i32 *i32 *i32 *i32 *fp32 *i32 *fp32 *fp32 *i32 *i32 *i32 *i32 *fp32 *fp32 i32 i32 i32"
    )
    constants = {
        "SESSIONS": MOST_ROWS,
        "ROWS": MOST_ROWS,
        "BLOCK": 4096,
        "LIST": 256,
        "LISTS": lists,
        "SCORE": "fp32",
    }
    name = f"{dtype}-{'lists' if lists else 'plain'}"
    return Variant("verify_rows", name, tuple(types.split()), constants, num_warps=8)


VARIANTS: tuple[Variant, ...] = (
    *(_exit_head_parts(dtype, rows) for dtype in HALVES_AND_SINGLE for rows in (16, 32, 64)),
    *(_exit_head_finish(name) for name in ("plain", "walk", "publish")),
    _exit_verdict(),
    *(_verify_rows(dtype, lists) for dtype in HALVES_AND_SINGLE for lists in (False, True)),
)
