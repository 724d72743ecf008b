"""Rows of keys and values go into a pool, which may hold them as 8-bit floats, and come out of it. Imports torch.

Older versions of torch copy no 8-bit floats by an index: their bytes are copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgespec.kernels.arguments import FLOAT8_MOST

FLOAT8 = torch.float8_e4m3fn


def as_float8(rows: Tensor) -> Tensor:
    """The nearest 8-bit floats, without a scale. What is beyond the largest becomes that: older versions of torch would
    make it NaN."""
    return rows.clamp(-FLOAT8_MOST, FLOAT8_MOST).to(FLOAT8)


def put(pool: Tensor, axis: int, slots: Tensor, rows: Tensor) -> None:
    """Write rows to the slots int64 [R] of a pool, along this axis, in its type."""
    if pool.dtype == FLOAT8:
        pool, rows = pool.view(torch.uint8), as_float8(rows).view(torch.uint8)
    pool.index_copy_(axis, slots, rows)


def take(pool: Tensor, axis: int, slots: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of the slots int64 [N] of a pool, along this axis, in this type."""
    if pool.dtype == FLOAT8:
        return pool.view(torch.uint8).index_select(axis, slots).view(FLOAT8).to(dtype)
    return pool.index_select(axis, slots).to(dtype)
