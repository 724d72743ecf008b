"""Rows of keys and values go into a pool, which may hold them as 8-bit floats. Imports torch."""

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
    if pool.dtype == FLOAT8:  # of which torch copies nothing by an index: its bytes are copied
        pool, rows = pool.view(torch.uint8), as_float8(rows).view(torch.uint8)
    pool.index_copy_(axis, slots, rows)
