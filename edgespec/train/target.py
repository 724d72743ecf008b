"""The target: a Llama-architecture model of about 15 M weights that learns the corpus's next tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.train.packing import Stream
from edgespec.train.stage import Stage


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


def build(shape: Shape, seed: int) -> LlamaForCausalLM:
    """A freshly drawn float32 model of this shape with tied embeddings; token 0 begins and ends texts."""
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
        bos_token_id=0,
        eos_token_id=0,
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

    def __init__(self, shape: Shape, stream: Stream, seed: int, tokens_a_step: int = 4096) -> None:
        model = build(shape, seed)
        super().__init__(
            "target", model, stream, seed=seed, tokens_a_step=tokens_a_step, context=shape.context
        )

    def step(self, fraction: float) -> tuple[float, int]:
        batch = self.next_batch(fraction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(input_ids=batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]).float(), batch[:, 1:].reshape(-1)
        )
        return self.learn([loss], fraction), batch.numel()


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write config.json and the weights in bfloat16 safetensors."""
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]
