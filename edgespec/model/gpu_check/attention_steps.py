"""The step of a check that times attention over pages, beside FlashInfer where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from edgespec.kernels.attention_plan import PAGE, AttentionPlan, HeadGroups, SessionPages
from edgespec.kernels.narrow_pool import as_float8
from edgespec.kernels.tree_attention import tree_attention
from edgespec.model.gpu_check.inputs import backend_of
from edgespec.model.gpu_check.place import Place, Row, Shape

WORKSPACE_BYTES = 128 << 20
"""That FlashInfer is given."""

YARDSTICK = "flashinfer"

IN_8_BITS = "edgespec, keys in 8 bits"


def attention_times(place: Place) -> Iterator[Row]:
    """Of one layer of each shape: 1 and 8 rows that see all slots, beside the time in which these are read."""
    speed = place.bytes_per_us()
    beside = place.device.type == "cuda" and find_spec(YARDSTICK) is not None
    if not beside:
        why = "is not installed" if place.device.type == "cuda" else "needs a GPU"
        yield {"what": "FlashInfer", "skipped": f"{YARDSTICK} {why}"}
    for shape in place.shapes:
        for slots in place.slots:
            for rows in (1, 8):
                query, keys, values = _rows(place, shape, rows, slots)
                own = place.captured(_own(place, shape, query, keys, values))
                found = {"edgespec": place.median_us(own)}
                if place.reads_float8:
                    narrow = place.captured(_own(place, shape, query, as_float8(keys), as_float8(values)))
                    found[IN_8_BITS] = place.median_us(narrow)
                if beside:
                    found["FlashInfer"] = place.median_us(_flashinfer(query, keys, values))
                for what, taken in found.items():
                    floor = (keys.nbytes + values.nbytes) / speed
                    if what == IN_8_BITS:
                        floor /= place.dtype.itemsize
                    yield {
                        "what": what, "shape": shape.name, "slots": slots, "rows": rows, "us": taken,
                        "of_floor": floor / taken,
                    }  # fmt: skip


def _rows(place: Place, shape: Shape, rows: int, slots: int) -> list[torch.Tensor]:
    random = torch.Generator(place.device).manual_seed(4)
    width = shape.hidden // shape.heads
    sizes = (rows, shape.heads, width), *[(shape.kv_heads, slots, width)] * 2
    return [torch.randn(one, generator=random, device=place.device).to(place.dtype) for one in sizes]


def _own(
    place: Place, shape: Shape, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> Callable[[], Any]:
    slots = keys.shape[1]
    session = SessionPages(np.arange(slots // PAGE), _seen(len(query), slots))
    groups = HeadGroups.of(shape.heads, shape.kv_heads, place.dtype.itemsize)
    plan, backend = AttentionPlan.of([session], groups).on(place.device), backend_of(place)
    scale = query.shape[-1] ** -0.5
    return lambda: tree_attention(query, keys, values, plan, scale=scale, backend=backend)


def _flashinfer(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Callable[[], Any]:
    """The same by FlashInfer: pages of 64 slots, and the rows' bits as its mask."""
    device, (rows, heads, width) = query.device, query.shape
    kv_heads, slots, _ = keys.shape
    paged = [one.view(kv_heads, -1, PAGE, width).transpose(0, 1).contiguous() for one in (keys, values)]
    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
    flashinfer = importlib.import_module(YARDSTICK)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "HND", backend="fa2")

    def numbers(*given: int) -> torch.Tensor:
        return torch.tensor(given, dtype=torch.int32, device=device)

    pages = slots // PAGE
    wrapper.plan(
        numbers(0, rows), numbers(0, pages), numbers(*range(pages)), numbers(PAGE), heads, kv_heads, width, PAGE,
        custom_mask=torch.from_numpy(_seen(rows, slots)).flatten().to(device), q_data_type=query.dtype,
    )  # fmt: skip
    return lambda: wrapper.run(query, tuple(paged))


def _seen(rows: int, slots: int) -> Any:
    """A chain in the last slots, behind a text that each of its rows sees."""
    return np.tri(rows, slots, slots - rows, dtype=np.bool_)
