"""The families of models that edgespec is tested with, by the `model_type` of their config.json.

A target of another family is tried: a self-check when it is loaded decides. A draft's graph is checked when it is
compiled.
"""

from __future__ import annotations

TARGETS = {
    "cohere": "Cohere",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "gpt_neox": "GPT-NeoX",
    "gpt_oss": "gpt-oss",
    "gptj": "GPT-J",
    "granite": "Granite",
    "llama": "Llama 1 to 3, Vicuna, SmolLM 1 and 2, TinyLlama",
    "mistral": "Mistral",
    "olmo2": "OLMo 2",
    "phi3": "Phi-3 and 4",
    "qwen2": "Qwen 2 and 2.5",
    "qwen3": "Qwen 3",
    "smollm3": "SmolLM 3",
    "stablelm": "StableLM",
}
"""Whose every mode is compared with transformers' own text in float64."""

VISION_TARGETS = {
    "gemma3": "Gemma 3",
    "idefics3": "Idefics 3",
    "internvl": "InternVL",
    "llava": "LLaVA",
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen2_vl": "Qwen2-VL",
    "qwen3_vl": "Qwen3-VL",
    "smolvlm": "SmolVLM",
}
"""Targets that read pictures."""

DRAFTS = {
    "llama": "Llama 1 to 3, Vicuna, SmolLM 1 and 2",
    "mistral": "Mistral",
    "qwen2": "Qwen 2 and 2.5",
    "qwen3": "Qwen 3",
}
"""Whose compiled graph is compared with transformers' own logits."""
