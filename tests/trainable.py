"""Tiny random targets of real families with a byte-level tokenizer and a chat template, and data for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

SIZE: dict[str, Any] = dict(
    vocab_size=320,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    max_position_embeddings=256,
    initializer_range=0.2,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, transformers.PretrainedConfig] = {
    "llama-3": transformers.LlamaConfig(**SIZE, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False),
    "qwen2.5": transformers.Qwen2Config(**SIZE, tie_word_embeddings=True),
    "gemma-3": transformers.Gemma3TextConfig(
        **SIZE, sliding_window=16, layer_types=["sliding_attention", "full_attention"] * 2
    ),
}
_NO_HEAD_DIM = {name: value for name, value in SIZE.items() if name != "head_dim"}
_MIXED: dict[str, Any] = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
MORE_FAMILIES: dict[str, transformers.PretrainedConfig] = {
    "mistral": transformers.MistralConfig(**SIZE, sliding_window=16),
    "qwen-3": transformers.Qwen3Config(**SIZE),
    "gemma-2": transformers.Gemma2Config(**SIZE, **_MIXED, attn_logit_softcapping=5.0),
    "cohere": transformers.CohereConfig(**_NO_HEAD_DIM),
    "granite": transformers.GraniteConfig(**SIZE, logits_scaling=3.0),
    "gpt-neox": transformers.GPTNeoXConfig(**_NO_HEAD_DIM),
    "gpt-oss": transformers.GptOssConfig(**SIZE, **_MIXED, num_local_experts=2, num_experts_per_tok=1),
    "olmo-2": transformers.Olmo2Config(**_NO_HEAD_DIM),
    "phi-3": transformers.Phi3Config(**_NO_HEAD_DIM),
    "smollm-3": transformers.SmolLM3Config(**SIZE),
    "stablelm": transformers.StableLmConfig(
        **_NO_HEAD_DIM,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    ),
}
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SUBJECTS = ("apples", "bridges", "clocks", "doors", "engines", "feathers", "gardens", "hammers")


def save_target(folder: Path, family: str = "llama-3", **changes: Any) -> Path:
    """changes: of the family's config."""
    torch.manual_seed(3)
    config = {**FAMILIES, **MORE_FAMILIES}[family]
    model = transformers.AutoModelForCausalLM.from_config(type(config)(**{**config.to_dict(), **changes}))
    model.save_pretrained(folder)
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=SIZE["vocab_size"],
        special_tokens=["</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([sentence(number) for number in range(200)], trainer)
    core.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def sentence(number: int) -> str:
    one, other = SUBJECTS[number % 8], SUBJECTS[number // 8 % 8]
    return f"The {one} stand beside the {other}, and number {number} is the next of them. "


def chat_rows(file: Path, count: int = 60) -> Path:
    rows = (
        {
            "messages": [
                {"role": "user", "content": f"What of {number}?"},
                {"role": "assistant", "content": sentence(number)},
            ]
        }
        for number in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
