"""A loaded causal LM: its weights, and what edgespec reads from its config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from edgespec.core.errors import EdgespecError
from edgespec.kernels.narrow_pool import FLOAT8
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.masks import Windows
from edgespec.model.support import context_length
from edgespec.model.vision import VisionEncoder, language_model


@dataclass(frozen=True)
class LoadedModel:
    """module: the transformers model. name: what messages and clients call it. vocabulary_hash: of the tokenizer
    beside it (edgespec.core.tokenizer). weights_sha256: of its files, hex digits; empty where there are none.
    tokenizer_path: its tokenizer.json; None: it has none. vision: its vision encoder; None: it reads text only.
    quantize: what its weights were quantised to when they were loaded; None: they are as the files hold them.
    float8_pool: keys and values are kept as 8-bit floats."""

    module: Any
    name: str
    vocabulary_hash: bytes
    weights_sha256: str = ""
    tokenizer_path: Path | None = None
    vision: VisionEncoder | None = None
    quantize: str | None = None
    float8_pool: bool = False

    @cached_property
    def config(self) -> Any:
        """The config of its text part."""
        return self.module.config.get_text_config()

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.module.dtype
        return dtype

    @property
    def arithmetic(self) -> str:
        """What decides the last bits of its results, besides its weights."""
        dtype = str(self.dtype).removeprefix("torch.")
        pool = "-kv-fp8" if self.float8_pool else ""
        return dtype + pool if self.quantize is None else f"{self.quantize}-{dtype}{pool}"

    @property
    def kv_dtype(self) -> torch.dtype:
        """Of the keys and values that are kept."""
        return FLOAT8 if self.float8_pool else self.dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.module.device
        return device

    @cached_property
    def head(self) -> torch.nn.Module:
        """The LM head."""
        head: torch.nn.Module = self.module.get_output_embeddings()
        return head

    @cached_property
    def decoder(self) -> Any:
        """The module from tokens to the rows that the LM head reads."""
        return self.module.base_model if self.vision is None else language_model(self.module)

    @property
    def rotary_cell(self) -> int:
        """See `VisionEncoder`."""
        return 0 if self.vision is None else self.vision.rotary_cell

    @cached_property
    def vocabulary_size(self) -> int:
        return int(self.module.get_output_embeddings().weight.shape[0])

    @cached_property
    def context_length(self) -> int:
        return context_length(self.config, self.name)

    @cached_property
    def decoder_layers(self) -> torch.nn.ModuleList:
        """The decoder's layers, wherever the model keeps them. Raises EdgespecError."""
        count = self.config.num_hidden_layers
        for module in (self.module.get_decoder() if self.vision is None else self.decoder).modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == count:
                return module
        raise EdgespecError(
            f"{type(self.module).__name__} keeps its {count} decoder layers where edgespec cannot find them."
        )

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a text, from the generation config, else from the model's."""
        for config in (getattr(self.module, "generation_config", None), self.config):
            ids = getattr(config, "eos_token_id", None)
            if ids is not None:
                return token_ids(ids)
        return ()

    @property
    def windows(self) -> Windows:
        """How far back its layers see now: the self-check narrows them for a moment."""
        return Windows.of(self.config)

    def use_attention(self, name: str) -> None:
        """Change how its language model attends, to one of transformers' names."""
        (self.module if self.vision is None else self.decoder).set_attn_implementation(name)

    @property
    def reads_slots(self) -> bool:
        """Whether its attention is edgespec's own (attention.py)."""
        return bool(self.config._attn_implementation == SLOT_ATTENTION)


def token_ids(ids: Any) -> tuple[int, ...]:
    """A config's eos_token_id: one token, several, or None."""
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, (list, tuple)) else (int(ids),)
