"""Which models can be a target: causal ones whose only memory of a token is keys and values at a rotary position.

What is known not to fit is refused by name before its weights are read; for the rest the self-check decides
(self_check.py).
"""

from __future__ import annotations

from typing import Any

from edgespec.core.errors import EdgespecError

ADVICE = "use a rotary causal model, such as Llama, Qwen, Mistral or Gemma"

REFUSED_FAMILIES = {
    "encodes positions with ALiBi": "bloom mpt",
    "has learned or absolute positions": "gpt2 gpt_bigcode gpt_neo gpt-sw3 openai-gpt opt biogpt ctrl xglm",
    "keeps a recurrent (state-space) state": "mamba mamba2 falcon_mamba rwkv xlstm recurrent_gemma jamba zamba zamba2",
    "lets every prompt token see those behind it": "paligemma paligemma2",
}
"""Why a model type cannot be a target."""

REFUSED = {family: reason for reason, families in REFUSED_FAMILIES.items() for family in families.split()}
"""The same by the config's model_type."""

KEY_VALUE_LAYERS = {"full_attention", "sliding_attention"}
RECURRENT_LAYERS = {"linear_attention", "conv", "hybrid", "hybrid_sliding", "moe"}


class UnsupportedModel(EdgespecError):
    """A model that cannot be a target."""


def check_config(config: Any, name: str) -> None:
    """Raise UnsupportedModel when the model's config, or that of its text, shows that it cannot be a target."""
    text_config = config.get_text_config()
    kind = config.model_type if config.model_type in REFUSED else text_config.model_type
    reason = _refusal(kind, text_config)
    if reason is not None:
        raise UnsupportedModel(
            f"{name} ({kind}) {reason}, which edgespec cannot verify trees with: {ADVICE}."
        )


def check_modules(model: Any, name: str) -> None:
    """Raise UnsupportedModel when the loaded model has no rotary embedding (GPT-J has one, but no module), or an output
    head without weights, as compressed-tensors leaves one that it has packed."""
    has_module = any("rotary" in type(module).__name__.lower() for module in model.modules())
    if not has_module and not getattr(model.config, "rotary_dim", None):
        raise UnsupportedModel(f"{name} ({type(model).__name__}) has no rotary position embedding: {ADVICE}.")
    if getattr(model.get_output_embeddings(), "weight", None) is None:
        raise UnsupportedModel(
            f"{name} has a quantised output head, which edgespec cannot read: quantise it again without lm_head."
        )


def context_length(config: Any, name: str) -> int:
    """Tokens of context: up to where LongRoPE would change its rotations, since cached keys keep theirs."""
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 2:
        raise UnsupportedModel(
            f"{name} does not say how long its context is: set max_position_embeddings in config.json."
        )
    if "longrope" in _rope_types(config):
        ropes = [*_rope_parameters(config), vars(config)]
        lengths = [rope.get("original_max_position_embeddings") for rope in ropes]
        return min([length, *(one for one in lengths if isinstance(one, int) and one)])
    return length


def _refusal(kind: str, config: Any) -> str | None:
    """kind: its model_type, or that of the whole model. config: of the text."""
    layer_types = set(getattr(config, "layer_types", None) or ())
    if getattr(config, "is_encoder_decoder", False):
        return "is an encoder-decoder model"
    if kind in REFUSED:
        return REFUSED[kind]
    if getattr(config, "alibi", False):
        return "encodes positions with ALiBi"
    if layer_types & RECURRENT_LAYERS:
        return "has linear-attention, convolution or state-space layers"
    if layer_types - KEY_VALUE_LAYERS:
        return f"has layers of {', '.join(sorted(layer_types - KEY_VALUE_LAYERS))}"
    if "dynamic" in _rope_types(config):
        return "has dynamically scaled rotary positions, whose rotations change with the text's length"
    return None


def _rope_types(config: Any) -> set[str]:
    return {str(rope.get("rope_type", "default")) for rope in _rope_parameters(config)}


def _rope_parameters(config: Any) -> list[dict[str, Any]]:
    """The rotary parameters; some models have them for each layer type."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return [part for part in parameters.values() if isinstance(part, dict)] or [parameters]
