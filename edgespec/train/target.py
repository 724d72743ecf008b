"""The bundled target: a Llama-architecture model of about 15 M weights that learns the corpus's next tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.train.packing import Batches
from edgespec.train.stage import Stage
from edgespec.train.teacher import fast_bfloat16


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-architecture model."""

    layers: int
    width: int
    heads: int
    key_value_heads: int
    inner: int
    context: int = 2048
    vocabulary: int = 4096

    def multiplications(self) -> int:
        """Multiply-adds a token, LM head included, attention over the cache left out."""
        key_value_width = self.width // self.heads * self.key_value_heads
        attention = 2 * self.width * self.width + 2 * self.width * key_value_width
        return self.layers * (attention + 3 * self.width * self.inner) + self.width * self.vocabulary


TARGET_SHAPE = Shape(layers=12, width=320, heads=10, key_value_heads=5, inner=832)


def build(shape: Shape, seed: int, end_tokens: Sequence[int]) -> LlamaForCausalLM:
    """A freshly drawn float32 model of this shape with tied embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=end_tokens[0] if end_tokens else None,
        eos_token_id=list(end_tokens) if len(end_tokens) > 1 else end_tokens[0] if end_tokens else None,
        rms_norm_eps=1e-5,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_((2 * shape.layers) ** -0.5)
    return model


class TargetStage(Stage):
    """Next-token prediction on the training split."""

    def __init__(self, model: LlamaForCausalLM, batches: Batches, context: int) -> None:
        super().__init__("target", model, batches, context)
        self._windows = batches

    def losses(self, length: int) -> tuple[Iterable[torch.Tensor], int]:
        batch = torch.from_numpy(self._windows.next(length)[0])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_bfloat16(torch.device("cpu"))):
            logits = self.model(input_ids=batch, use_cache=False).logits
        rows, wanted = logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten()
        return [torch.nn.functional.cross_entropy(rows, wanted)], batch.numel()
