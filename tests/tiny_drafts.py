"""Tiny random drafts of the Llama family in Hugging Face format, with a tokenizer, for tests that compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

VOCABULARY = 101
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""The initializer's range spreads the scores, so that near-ties are rare."""

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}

FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, every head its own keys": ("Llama", {}),
    "llama, tied, grouped": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
    "llama, one key head, wide heads, scaled rotation": (
        "Llama",
        {"num_key_value_heads": 1, "head_dim": 16, "rope_parameters": LLAMA3_ROPE},
    ),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2, biased projections": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen3, normed heads": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
}
"""Name -> the class's stem in transformers, and what its config changes in SHAPE."""


def save_family_member(folder: Path, name: str) -> Path:
    """Save one of FAMILY into `folder`."""
    stem, changes = FAMILY[name]
    return save_draft(folder, stem, **changes)


def save_draft(folder: Path, stem: str = "Llama", **changes: Any) -> Path:
    """Save a random model, biases and norms too, and a word-level tokenizer of its vocabulary."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{stem}Config")(**{**SHAPE, **changes})
    model = getattr(transformers, f"{stem}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    model.save_pretrained(folder)
    words = {f"w{token}": token for token in range(config.vocab_size)}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0")).save(
        str(folder / "tokenizer.json")
    )
    return folder
