"""transformers' own cache with keys and values rounded as a pool of 8-bit floats rounds them: what a target with such a
pool is compared with."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from edgespec.kernels.narrow_pool import as_float8
from edgespec.model.cache_argument import cache_argument
from edgespec.model.loaded_model import LoadedModel


class RoundingCache(DynamicCache):
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (as_float8(one).to(one.dtype) for one in (key_states, value_states))
        kept: tuple[torch.Tensor, torch.Tensor] = super().update(keys, values, *args, **kwargs)
        return kept


def own_cache(model: LoadedModel) -> dict[str, Any]:
    """What a forward of the model's own takes so that it reads what its pool would hold; nothing where the pool rounds
    nothing."""
    return {cache_argument(model.module): RoundingCache()} if model.float8_pool else {}
