"""The step that compares each kernel with its CPU form or its reference: exits, verify, attention, a layer's steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.kernels.arguments import on_host
from edgespec.kernels.attention_plan import PAGE, AttentionPlan, HeadGroups, SessionPages
from edgespec.kernels.data import Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.layer import gated, residual_norm, rotary_write
from edgespec.kernels.layer_data import Norm
from edgespec.kernels.narrow_head import narrowed
from edgespec.kernels.narrow_pool import FLOAT8, as_float8
from edgespec.kernels.tree_attention import tree_attention
from edgespec.kernels.verify import verify
from edgespec.model.gpu_check.inputs import (
    MODES,
    backend_of,
    columns,
    exit_arguments,
    logits_of,
    samplings_of,
)
from edgespec.model.gpu_check.place import Place, Row

NEAR_TIES = {torch.float32: 1e-3, torch.bfloat16: 0.3}
"""Margins below which scores of two machines may choose different tokens."""

NEAR = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""How far other results may be from the reference's, relatively and absolutely."""

VOCABULARY = 997

HEADS, HEAD_WIDTH = ((8, 8), (8, 2)), 128
"""Query heads and key heads: without groups, and in groups of four."""


def kernels_agree(place: Place) -> Iterator[Row]:
    """In float32 and in bfloat16. Raises EdgespecError where a kernel says something else."""
    for dtype in NEAR_TIES:
        for rows in (1, 8, 33):
            yield _exit_agrees(place, rows, dtype)
            for mode in MODES:
                yield _verify_agrees(place, rows, mode, dtype)
        for heads, kv_heads in HEADS:
            yield _attention_agrees(place, heads, kv_heads, dtype)
        yield from _layer_agrees(place, dtype)
    for rows in (1, 8, 33):
        yield _narrow_exit_agrees(place, rows)
    if place.reads_float8:
        for heads, kv_heads in HEADS:
            yield _attention_agrees(place, heads, kv_heads, torch.bfloat16, FLOAT8)
        yield _float8_pool_agrees(place, torch.bfloat16)


def _exit_agrees(place: Place, rows: int, dtype: torch.dtype) -> Row:
    given = exit_arguments(place, rows, VOCABULARY, dtype)
    wanted = exit_head(*(one.cpu() for one in given), **columns(rows), backend="cpu")
    got = exit_head(*given, **columns(rows), backend=backend_of(place))
    return _compared(f"exit_head, {rows} rows", dtype, got.tokens, wanted.tokens, wanted.margins)


def _narrow_exit_agrees(place: Place, rows: int) -> Row:
    """The head of 8 bits that is served has no form for CPUs: beside the reference."""
    hidden, norm, head = exit_arguments(place, rows, VOCABULARY, torch.bfloat16)
    narrow, scales = narrowed(head)
    given = hidden, norm, narrow
    wanted = exit_head(
        *(one.cpu() for one in given), **columns(rows), scales=scales.cpu(), backend="reference"
    )
    own = "reference" if place.device.type == "cpu" else backend_of(place)
    got = exit_head(*given, **columns(rows), scales=scales, backend=own)
    return _compared(
        f"exit_head of 8 bits, {rows} rows", torch.bfloat16, got.tokens, wanted.tokens, wanted.margins
    )


def _verify_agrees(place: Place, rows: int, mode: str, dtype: torch.dtype) -> Row:
    logits = logits_of(place, rows, VOCABULARY, dtype)
    how = Trees.single_rows(rows), columns(rows)["positions"], samplings_of(mode, rows)
    wanted = verify(logits.cpu(), *how, backend="cpu")
    got = verify(logits, *how, backend=backend_of(place)).on_host()
    # Both read the same logits: a near tie is one of float32, whatever their type.
    return _compared(
        f"verify {mode}, {rows} rows", torch.float32, got.choices, wanted.choices, wanted.margins, dtype
    )


def _attention_agrees(
    place: Place, heads: int, kv_heads: int, dtype: torch.dtype, pool: torch.dtype | None = None
) -> Row:
    """pool: the type of keys and values; None: that of the queries."""
    random = np.random.default_rng(5)
    sessions = [
        SessionPages(np.array([3, 0, 5]), _seen(random, rows=7, slots=150)),
        SessionPages(np.array([1]), _seen(random, rows=2, slots=40)),
    ]
    sizes = (9, heads, HEAD_WIDTH), (kv_heads, 6 * PAGE, HEAD_WIDTH), (kv_heads, 6 * PAGE, HEAD_WIDTH)
    types = dtype, pool or dtype, pool or dtype
    query, keys, values = (
        torch.from_numpy(random.normal(size=size)).to(own) for size, own in zip(sizes, types, strict=True)
    )
    plan, scale = AttentionPlan.of(sessions, HeadGroups.of(heads, kv_heads, dtype.itemsize)), HEAD_WIDTH**-0.5
    wanted = tree_attention(query, keys, values, plan, scale=scale, backend="reference")
    query, keys, values = (one.to(place.device) for one in (query, keys, values))
    got = tree_attention(query, keys, values, plan.on(place.device), scale=scale, backend=backend_of(place))
    what = f"tree_attention, {heads} heads of {kv_heads} keys" + (" in 8 bits" if pool else "")
    return _near(what, dtype, [got], [wanted])


def _float8_pool_agrees(place: Place, dtype: torch.dtype) -> Row:
    """What rotary_write leaves in a pool of 8-bit floats is what it leaves in another, rounded, to the bit."""
    random = torch.Generator().manual_seed(6)
    angles = torch.randn(8, HEAD_WIDTH, generator=random)
    rows = 100 * torch.randn(8, 12 * HEAD_WIDTH, generator=random)  # some are beyond the largest
    given = [one.to(dtype) for one in (rows, angles.cos(), angles.sin())] + [torch.arange(8) * 5 + 3]
    left = []
    for pool in (dtype, FLOAT8):
        pools = [torch.zeros(2, PAGE, HEAD_WIDTH, device=place.device).to(pool) for _ in range(2)]
        rotary_write(*(one.to(place.device) for one in given), *pools, backend=backend_of(place))
        left.append(
            [(one if pool == FLOAT8 else as_float8(one.cpu())).cpu().view(torch.uint8) for one in pools]
        )
    if not all(map(torch.equal, *left)):
        raise EdgespecError("rotary_write rounds keys and values otherwise than to the nearest 8-bit float.")
    return {"what": "rotary_write, into 8 bits", "dtype": str(dtype).removeprefix("torch."), "same": True}


def _seen(random: np.random.Generator, rows: int, slots: int) -> NDArray[np.bool_]:
    """A text, and a tree behind it whose node has any earlier one for a parent."""
    seen = np.zeros((rows, slots), np.bool_)
    text = slots - rows
    seen[:, :text] = True
    for row in range(rows):
        if row:
            seen[row] = seen[int(random.integers(row))]
        seen[row, text + row] = True
    return seen


def _layer_agrees(place: Place, dtype: torch.dtype) -> Iterator[Row]:
    random = torch.Generator().manual_seed(3)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=random).to(dtype)

    there, backend = place.device, backend_of(place)
    added, residual, weight = normal(8, place.width), normal(8, place.width), 1 + normal(place.width) / 8
    wanted = residual_norm(added, residual, Norm(weight, 1e-5, False), backend="reference")
    own = Norm(weight.to(there), 1e-5, False)
    yield _near(
        "residual_norm",
        dtype,
        residual_norm(added.to(there), residual.to(there), own, backend=backend),
        wanted,
    )
    angles = torch.randn(8, HEAD_WIDTH, generator=random)
    given = (
        normal(8, 12 * HEAD_WIDTH),
        angles.cos().to(dtype),
        angles.sin().to(dtype),
        torch.arange(8) * 5 + 3,
    )
    pools = [
        torch.zeros(2, PAGE, HEAD_WIDTH, dtype=dtype, device=device)
        for device in (there, there, "cpu", "cpu")
    ]
    on_cpu = rotary_write(*given, *pools[2:], backend="cpu")
    turned = rotary_write(*(one.to(there) for one in given), *pools[:2], backend=backend)
    yield _near("rotary_write", dtype, [turned, *pools[:2]], [on_cpu, *pools[2:]])
    both = normal(8, 2 * place.width)
    for gelu in (False, True):
        found = gated(both.to(there), gelu=gelu, backend=backend)
        yield _near(
            f"gated, {'gelu' if gelu else 'silu'}",
            dtype,
            [found],
            [gated(both, gelu=gelu, backend="reference")],
        )


def _compared(
    what: str, near: torch.dtype, got: Any, wanted: Any, margins: Any, dtype: torch.dtype | None = None
) -> Row:
    others = (on_host(got) != on_host(wanted)) & (on_host(margins) > NEAR_TIES[near])
    if others.any():
        raise EdgespecError(
            f"{what}: rows {np.flatnonzero(others).tolist()} decide other tokens than the CPU's."
        )
    return {"what": what, "dtype": str(dtype or near).removeprefix("torch."), "same": True}


def _near(what: str, dtype: torch.dtype, got: Any, wanted: Any) -> Row:
    furthest = 0.0
    for one, other in zip(got, wanted, strict=True):
        own, want = torch.as_tensor(on_host(one.float())), torch.as_tensor(other).float()
        furthest = max(furthest, float(((own - want).abs() / (1 + want.abs())).max()))
    if not furthest <= NEAR[dtype]:
        raise EdgespecError(
            f"{what} in {str(dtype).removeprefix('torch.')} is {furthest:.2g} from the reference."
        )
    return {"what": what, "dtype": str(dtype).removeprefix("torch."), "furthest": furthest}
