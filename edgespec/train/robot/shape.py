"""Models of Qwen2-VL's architecture in small sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from edgespec.train.robot.words import END, IMAGE, PADDING, VIDEO, VISION_END, VISION_START

PATCH, MERGE, FRAMES = 14, 2, 2
"""As in Qwen2-VL: pixels of a patch's side, patches of a cell's side, copies of a still picture."""


@dataclass(frozen=True)
class SeeingShape:
    """layers, width, heads, key_value_heads, inner: of the language model; sight_layers, sight_width: of the vision
    encoder, whose heads are 32 wide."""

    layers: int
    width: int
    heads: int
    key_value_heads: int
    inner: int
    sight_layers: int
    sight_width: int
    context: int = 1024


SPECIAL_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def build(shape: SeeingShape, tokenizer: Tokenizer, seed: int) -> Any:
    """A freshly drawn float32 model of this shape with tied embeddings."""
    torch.manual_seed(seed)
    pairs = shape.width // shape.heads // 2
    sides = 3 * pairs // 8
    ids: dict[str, Any] = {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS.items()}
    model = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config={
                "vocab_size": tokenizer.get_vocab_size(),
                "hidden_size": shape.width,
                "intermediate_size": shape.inner,
                "num_hidden_layers": shape.layers,
                "num_attention_heads": shape.heads,
                "num_key_value_heads": shape.key_value_heads,
                "max_position_embeddings": shape.context,
                "tie_word_embeddings": True,
                "bos_token_id": None,
                "eos_token_id": tokenizer.token_to_id(END),
                "pad_token_id": tokenizer.token_to_id(PADDING),
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [pairs - 2 * sides, sides, sides],
                },
            },
            vision_config={
                "depth": shape.sight_layers,
                "embed_dim": shape.sight_width,
                "hidden_size": shape.width,
                "num_heads": shape.sight_width // 32,
                "mlp_ratio": 3,
                "patch_size": PATCH,
                "spatial_merge_size": MERGE,
                "temporal_patch_size": FRAMES,
                "in_channels": 3,
            },
            tie_word_embeddings=True,
            **ids,
        )
    )
    with torch.no_grad():
        model.model.visual.patch_embed.proj.weight.normal_(0, (3 * FRAMES * PATCH * PATCH / 2) ** -0.5)
    return model


def build_blind(shape: SeeingShape, tokenizer: Tokenizer, seed: int) -> Any:
    """The language half alone, as a draft that sees nothing: the plain causal model of the same family."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id(END),
            pad_token_id=tokenizer.token_to_id(PADDING),
        )
    )
