"""Attention over slots: SDPA that reads the key-value pool in place, for each session of a batch by itself.

transformers' own SDPA repeats keys and values for grouped queries, which copies the cache at every layer of every
forward. Here the queries that share a key head are packed as further rows instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from edgespec.kernels.narrow_pool import take

SLOT_ATTENTION = "edgespec_slots"
"""The name under which transformers knows it."""


class Layout(Protocol):
    """Where the rows of the running forward lie, and the slots that they see."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None
    ) -> Tensor:
        """query [1, H, R, d], key and value [1, G, S, d] of the whole pool, which may be 8-bit floats -> [1, R, H, d of
        value]."""


_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


@contextmanager
def attending(layout: Layout) -> Iterator[None]:
    """Within, attention reads the pool as `layout` says."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current_layout() -> Layout | None:
    """None outside `attending`."""
    return _layout.get()


def slot_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`Layout.attend`; outside `attending`, transformers' own SDPA."""
    layout = _layout.get()
    if layout is None or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    return layout.attend(query, key, value, attention_mask, scaling), None


@dataclass(frozen=True)
class SessionSpan:
    """One session in a batch: its rows [first, last), and the pool's slots that they see, int64 [width]. start: the
    first of these slots where they are contiguous, else None."""

    first: int
    last: int
    width: int
    start: int | None
    seen: Tensor

    def read(self, pool: Tensor, dtype: torch.dtype) -> Tensor:
        """The slots [1, G, W, d] that it sees, in this type: a view where they are contiguous and have it, else a
        copy."""
        if self.start is not None:
            return pool[:, :, self.start : self.start + self.width].to(dtype)
        return take(pool, 2, self.seen, dtype)


@dataclass
class SessionLayout:
    """Each session's rows attend to its own slots. Masks are [1, 1, R, W] over each row's own slots."""

    spans: Sequence[SessionSpan]
    _masks: dict[int, tuple[Tensor, list[Tensor]]] = field(default_factory=dict)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None
    ) -> Tensor:
        heads, rows = query.shape[1:3]
        output = query.new_empty(1, rows, heads, value.shape[-1])
        for span, own in zip(self.spans, self._packed(mask, heads // key.shape[1]), strict=True):
            part = scaled_dot_product_attention(
                query[:, :, span.first : span.last].reshape(1, key.shape[1], -1, query.shape[-1]),
                span.read(key, query.dtype),
                span.read(value, query.dtype),
                attn_mask=own,
                scale=scaling,
            )
            output[:, span.first : span.last] = part.reshape(1, heads, -1, value.shape[-1]).transpose(1, 2)
        return output

    def _packed(self, mask: Tensor, share: int) -> list[Tensor]:
        """Each session's mask, repeated for the query heads that share a key head; made once for all layers."""
        if id(mask) not in self._masks:  # the mask is kept too, so that its id stays its own
            own = [mask[:, :, one.first : one.last, : one.width].repeat(1, 1, share, 1) for one in self.spans]
            self._masks[id(mask)] = (mask, own)
        return self._masks[id(mask)][1]


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
