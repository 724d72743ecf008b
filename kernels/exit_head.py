"""An exit's guess: hidden rows -> RMS norm -> the target's LM head -> coupled noise -> best token and margin.

No [R, V] logits are kept. The backends are exit_head_reference.py, csrc/sampling/exit_head.cpp and, for CUDA,
exit_head_launch.py with exit_head_triton.py. They agree except at near-ties; docs/kernels.md states the bound.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.kernels import arguments, exit_head_reference
from edgespec.kernels.arguments import FLOAT32, INT32, UINT64
from edgespec.kernels.data import ExitScores, HeadSettings

MAX_ROWS = 64

MAX_POSITION = 2**31 - 1

PARALLEL_BYTES = 4 << 20
"""Bytes of the LM head for which another thread pays."""

PLAIN = HeadSettings()


def exit_head(
    hidden: Any,
    norm: Any,
    head: Any,
    *,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    scales: Any = None,
    settings: HeadSettings = PLAIN,
    backend: str = "auto",
    threads: int | None = None,
) -> ExitScores:
    """The guess of an exit for each row of `hidden`, reading the LM head once.

    hidden: [R, D], 1 to 64 rows, the exit's adapter already applied. norm: [D]. head: [V, D]. All three are contiguous,
    on one device and of one dtype: float32, bfloat16 or float16. As in the model, rows are normalised in float32 and
    rounded to that dtype before and after the norm's weights. temperatures: float32 [R], 0 is greedy. seeds: uint64
    [R]. positions: int32 [R], absolute position of the guessed token. For halves the head may also be int8, and then
    scales, float32 [V], says what each token's numbers stand for (narrow_head.py; not on the CPU). backend: "auto",
    "reference", "cpu" or "triton". threads: of the CPU backend; None: torch's number of them, as far as they pay.
    Raises EdgespecError for an argument that does not fit.
    """
    columns = checked(hidden, norm, head, scales, temperatures, seeds, positions)
    chosen = arguments.choose_backend(backend, hidden)
    if chosen == "triton":
        from edgespec.kernels import exit_head_launch  # imports torch

        return exit_head_launch.exit_head(hidden, norm, head, scales, columns, settings)
    if chosen == "reference":
        return exit_head_reference.exit_head(hidden, norm, head, scales, columns, settings)
    arguments.require(scales is None, "head", arguments.dtype_name(hidden), "int8", "pass the head as it is")
    return _on_cpu(hidden, norm, head, columns, settings, threads)


def checked(
    hidden: Any, norm: Any, head: Any, scales: Any, temperatures: Any, seeds: Any, positions: Any
) -> tuple[Any, Any, Any]:
    """The last three arguments of exit_head as arrays, all seven checked. Raises EdgespecError."""
    arguments.matrix("hidden", hidden, ("R", "D"), ("float32", *arguments.HALVES))
    rows, width = hidden.shape
    arguments.require(rows <= MAX_ROWS, "hidden", f"at most {MAX_ROWS} rows", f"{rows} rows")
    same = (arguments.dtype_name(hidden),)
    arguments.matrix("norm", norm, (width,), same)
    narrow = scales is not None
    arguments.matrix("head", head, ("V", width), ("int8",) if narrow else same)
    if narrow:
        arguments.require(same[0] in arguments.HALVES, "hidden", "a half where scales are given", same[0])
        arguments.matrix("scales", scales, (len(head),), ("float32",))
    devices = {arguments.device_of(array) for array in (hidden, norm, head)}
    arguments.require(len(devices) == 1, "hidden, norm and head", "on one device", sorted(devices))
    columns = (
        arguments.column("temperatures", temperatures, FLOAT32, rows),
        arguments.column("seeds", seeds, UINT64, rows),
        arguments.column("positions", positions, INT32, rows),
    )
    arguments.in_range("temperatures", columns[0], 0, np.finfo(np.float32).max)
    arguments.in_range("positions", columns[2], 0, MAX_POSITION)
    return columns


def _on_cpu(
    hidden: Any,
    norm: Any,
    head: Any,
    columns: tuple[Any, Any, Any],
    settings: HeadSettings,
    threads: int | None,
) -> ExitScores:
    weights = arguments.raw(head)
    tokens, margins = _native.exit_head(
        arguments.raw(hidden),
        arguments.raw(norm),
        weights,
        arguments.dtype_name(head),
        *columns,
        settings.epsilon,
        settings.logit_scale,
        settings.softcap,
        useful_threads(threads, weights.nbytes),
    )
    return ExitScores(tokens, margins)


def useful_threads(threads: int | None, bytes_to_read: int) -> int:
    """`threads`, or torch's number of them as far as each gets enough to read."""
    available = available_threads(threads)
    return available if threads is not None else max(1, min(available, bytes_to_read // PARALLEL_BYTES))


def available_threads(threads: int | None) -> int:
    """`threads`, or torch's number of them, where torch is in use."""
    if threads is not None:
        arguments.require(threads >= 1, "threads", "1 or more", threads)
        return threads
    torch = sys.modules.get("torch")
    return 1 if torch is None else int(torch.get_num_threads())
