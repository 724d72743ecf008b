"""Attention over slots: SDPA that reads the key-value pool where it lies, for each session of a batch by
itself.

transformers' own repeats keys and values for grouped queries, which copies the cache at every layer of every
forward. Here the queries that share a key head are packed as further rows instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from edgespec.model.batch import Layout, Place
from edgespec.model.ordered import ordered_attention

SLOT_ATTENTION = "edgespec_slots"
"""The name under which transformers knows it."""

_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def attending(layout: Layout) -> Iterator[None]:
    """Within, attention reads the pool as `layout` says."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def layout_now() -> Layout | None:
    """What attention would read now; None outside `attending`."""
    return _layout.get()


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, H, R, d], key and value [1, G, S, d] of the whole pool, mask [1, 1, R, W] over each row's own
    slots -> [1, R, H, d of value]. Outside `attending` it is transformers' own SDPA."""
    layout = _layout.get()
    if layout is None or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if layout.groups:
        window = int(attention_mask[0, 0, 0, 0])
        return ordered_attention(layout.groups, query, key, value, window, scaling), None
    heads, rows = query.shape[1:3]
    share = heads // key.shape[1]
    if (
        id(attention_mask) not in layout.ready
    ):  # kept with the mask itself, so that the identity stays its own
        layout.ready[id(attention_mask)] = (
            attention_mask,
            [
                attention_mask[:, :, place.first : place.last, : place.width].repeat(1, 1, share, 1)
                for place in layout.places
            ],
        )
    _, masks = layout.ready[id(attention_mask)]
    output = query.new_empty(1, rows, heads, value.shape[-1])
    for place, mask in zip(layout.places, masks, strict=True):
        part = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, place.first : place.last].reshape(1, key.shape[1], -1, query.shape[-1]),
            _seen(key, place),
            _seen(value, place),
            attn_mask=mask,
            scale=scaling,
        )
        output[:, place.first : place.last] = part.reshape(1, heads, -1, value.shape[-1]).transpose(1, 2)
    return output, None


def _seen(pool: torch.Tensor, place: Place) -> torch.Tensor:
    """The slots [1, G, W, d] that a part sees: where they lie, or gathered if they are scattered."""
    if place.start is not None:
        return pool[:, :, place.start : place.start + place.width]
    return pool.index_select(2, place.seen)


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
