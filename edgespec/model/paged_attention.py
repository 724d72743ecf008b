"""Attention over pages: the target's layers read the key-value pool in place, by the kernel tree_attention.

A forward's plan goes to the layers by the layout, and each row's bits where transformers expects a mask; so each type
of layer gets its own. Families with soft caps or attention sinks need no path of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.attention_plan import AttentionPlan, HeadGroups, SessionPages
from edgespec.kernels.tree_attention import tree_attention
from edgespec.kernels.variants import HEAD_WIDTHS
from edgespec.model.attention import current_layout
from edgespec.model.backends import attention_backend_on, head_width
from edgespec.model.kv_cache import SCRATCH
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.masks import Windows, seen_slots
from edgespec.model.support import UnsupportedModel
from edgespec.model.target_engine import SessionRows

PAGED_ATTENTION = "edgespec_pages"
"""The name under which transformers knows it."""

Plans = Mapping[int | None, AttentionPlan]
"""Of a forward, by the window of the layers."""


@dataclass(frozen=True)
class PagedAttention:
    """How one model attends over pages. backend: of tree_attention. before: the model's attention until now."""

    backend: str
    groups: HeadGroups
    before: str

    @classmethod
    def wanted(cls, model: LoadedModel) -> PagedAttention | None:
        """None where the device has no kernel for it, or none for heads so wide, or the model keeps something else than
        keys and values."""
        backend, config = attention_backend_on(model.device, model.dtype), model.config
        latent = getattr(config, "kv_lora_rank", None)
        if backend is None or latent or not model.module._supports_attention_backend:
            return None
        if head_width(config) > HEAD_WIDTHS[-1]:
            return None
        heads, shares = config.num_attention_heads, {_share(layer) for layer in model.decoder_layers}
        if len(shares) != 1:
            return None
        kv_heads = heads // shares.pop()
        return cls(backend, HeadGroups.of(heads, kv_heads, model.dtype.itemsize), config._attn_implementation)

    def plans(
        self,
        batch: Sequence[SessionRows],
        windows: Windows,
        mutual: Sequence[NDArray[np.bool_]] | None = None,
        spare: int = 0,
        tile_queries: int | None = None,
    ) -> Plans:
        """mutual: as in Windows.masks. spare: rows behind the batch's that see themselves on the scratch page."""
        padding = [SessionPages([SCRATCH], np.eye(spare, SLOT_BUCKET, dtype=np.bool_))] if spare else []
        plans = {}
        for window in set(windows.by_layer_type.values()):
            sessions = []
            for number, one in enumerate(batch):
                seen = seen_slots(one.piece, window, None if mutual is None else mutual[number])
                pages = one.cache.pages[: -(-seen.shape[1] // SLOT_BUCKET)]
                sessions.append(SessionPages(pages, seen))
            plans[window] = AttentionPlan.of([*sessions, *padding], self.groups, tile_queries)
        return plans


def _share(layer: torch.nn.Module) -> int:
    """Query heads of a key head."""
    groups = (getattr(module, "num_key_value_groups", None) for module in layer.modules())
    return next((share for share in groups if share is not None), 1)


@dataclass(frozen=True)
class PagedLayout:
    """A `Layout` whose masks are the words of its plans, [1, 1, R, W]."""

    plans: Sequence[AttentionPlan]
    paged: PagedAttention

    @classmethod
    def of(
        cls, plans: Plans, windows: Windows, paged: PagedAttention
    ) -> tuple[PagedLayout, Tensor | dict[str, Tensor]]:
        """The layout, and what transformers takes as masks."""
        words = {kind: plans[window].words[None, None] for kind, window in windows.by_layer_type.items()}
        return cls([*plans.values()], paged), words if len(words) > 1 else next(iter(words.values()))

    def plan_of(self, mask: Tensor) -> AttentionPlan:
        """The plan whose words are this mask."""
        return next(one for one in self.plans if one.words.data_ptr() == mask.data_ptr())

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        scaling: float | None,
        softcap: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """As `Layout.attend`."""
        if query.shape[1] != key.shape[1] * self.paged.groups.share:
            raise UnsupportedModel("its layers do not share keys alike.")
        read: Tensor = tree_attention(
            query[0].transpose(0, 1).contiguous(),
            key[0],
            value[0],
            self.plan_of(mask),
            scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
            softcap=softcap,
            sinks=None if sinks is None else sinks.float(),
            backend=self.paged.backend,
        )
        return read[None]


def paged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """`PagedLayout.attend`; outside `attending`, what transformers' own forward does."""
    layout = current_layout()
    if isinstance(layout, PagedLayout):
        assert attention_mask is not None
        return layout.attend(query, key, value, attention_mask, scaling, softcap or 0.0, s_aux), None
    if softcap is None and s_aux is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    eager = sys.modules[type(module).__module__].eager_attention_forward
    given = {"softcap": softcap, "s_aux": s_aux, "scaling": scaling, **kwargs}
    written_out: tuple[Tensor, Tensor | None] = eager(module, query, key, value, attention_mask, **given)
    return written_out


AttentionInterface.register(PAGED_ATTENTION, paged_attention)
AttentionMaskInterface.register(PAGED_ATTENTION, eager_mask)
