"""Attention over slots: SDPA that reads the cache where it lies.

transformers' own repeats keys and values for grouped queries, which copies the cache at every layer of every
forward. Here the queries that share a key head are packed as further rows instead.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

SLOT_ATTENTION = "edgespec_slots"
"""The name under which transformers knows it."""


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, H, R, d], key and value [1, G, W, d], mask [1, 1, R, W] -> [1, R, H, d of value]."""
    batch, heads, rows, width = query.shape
    groups = key.shape[1]
    plain = attention_mask is None or attention_mask.shape[1] != 1 or kwargs.get("position_bias") is not None
    if plain or groups == heads:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    share = heads // groups
    assert attention_mask is not None
    output = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(batch, groups, share * rows, width),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, share, 1),
        scale=scaling,
    )
    return output.reshape(batch, heads, rows, value.shape[-1]).transpose(1, 2).contiguous(), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)
AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
