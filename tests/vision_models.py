"""Tiny random vision-language models of many families, saved as real ones are, and texts with pictures for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from stubs import serving

from edgespec.core.tokenizer import Tokenizer
from edgespec.model.reference import CoupledNoise
from edgespec.model.target import Target

VOCABULARY = 300
PLACEHOLDER, START, END = 290, 292, 293
SPECIAL = {
    PLACEHOLDER: "<|image_pad|>",
    291: "<|video_pad|>",
    START: "<|vision_start|>",
    END: "<|vision_end|>",
}
LLAMA: dict[str, Any] = dict(
    model_type="llama",
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    initializer_range=0.2,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)
QWEN2 = {**LLAMA, "model_type": "qwen2"}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
QWEN_TEXT = {**{k: v for k, v in LLAMA.items() if k != "model_type"}, "rope_parameters": ROPE}
IDS = dict(
    image_token_id=PLACEHOLDER, video_token_id=291, vision_start_token_id=START, vision_end_token_id=END
)
SIGLIP = dict(
    model_type="siglip_vision_model",
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
)
GRID = dict(num_heads=2, spatial_merge_size=2, temporal_patch_size=2)
IDEFICS = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=28,
    patch_size=7,
)
LLAVA = dict(
    vision_config=SIGLIP,
    image_token_id=PLACEHOLDER,
    vision_feature_select_strategy="full",
    vision_feature_layer=-1,
)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_vl": (
        "Qwen2VL",
        dict(
            text_config=QWEN_TEXT,
            vision_config=dict(GRID, depth=2, embed_dim=32, hidden_size=64, mlp_ratio=2, patch_size=14),
            **IDS,
        ),
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VL",
        dict(
            text_config=QWEN_TEXT,
            vision_config=dict(
                GRID,
                depth=2,
                hidden_size=32,
                out_hidden_size=64,
                intermediate_size=64,
                patch_size=14,
                window_size=56,
                fullatt_block_indexes=[1],
            ),
            **IDS,
        ),
    ),
    "qwen3_vl": (
        "Qwen3VL",
        dict(
            text_config={**QWEN_TEXT, "head_dim": 16},
            vision_config=dict(
                GRID,
                depth=3,
                hidden_size=32,
                out_hidden_size=64,
                intermediate_size=64,
                patch_size=16,
                num_position_embeddings=64,
                deepstack_visual_indexes=[0, 1],
            ),
            **IDS,
        ),
    ),
    "llava": ("Llava", dict(text_config=LLAMA, **LLAVA)),
    "llava_onevision": (
        "LlavaOnevision",
        dict(
            text_config=QWEN2,
            video_token_id=291,
            image_grid_pinpoints=[[28, 28], [28, 56], [56, 28]],
            **LLAVA,
        ),
    ),
    "smolvlm": (
        "SmolVLM",
        dict(
            text_config=LLAMA,
            vision_config=IDEFICS,
            image_token_id=PLACEHOLDER,
            scale_factor=2,
            pad_token_id=0,
        ),
    ),
    "idefics3": (
        "Idefics3",
        dict(
            text_config=LLAMA,
            vision_config=IDEFICS,
            image_token_id=PLACEHOLDER,
            scale_factor=2,
            pad_token_id=0,
        ),
    ),
    "gemma3": (
        "Gemma3",
        dict(
            text_config={
                **LLAMA,
                "model_type": "gemma3_text",
                "head_dim": 16,
                "sliding_window": 8,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            },
            vision_config=SIGLIP,
            image_token_id=PLACEHOLDER,
            mm_tokens_per_image=4,
        ),
    ),
    "internvl": (
        "InternVL",
        dict(
            text_config=QWEN2,
            vision_config={**IDEFICS, "image_size": [28, 28], "patch_size": [7, 7]},
            image_token_id=PLACEHOLDER,
            image_seq_length=4,
            downsample_ratio=0.5,
        ),
    ),
}


def tiny(family: str, dtype: torch.dtype = torch.float64) -> Any:
    """A random model of the family, without an end token."""
    name, config = FAMILIES[family]
    torch.manual_seed(3)
    settings = getattr(transformers, f"{name}Config")(**copy.deepcopy(config))
    model = getattr(transformers, f"{name}ForConditionalGeneration")(settings).to(dtype).eval()
    if family == "gemma3":  # its projection begins as zeros
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def save(model: Any, folder: Path) -> Path:
    """With a tokenizer of one word a token, and small pictures where they may have any size."""
    model.save_pretrained(folder)
    words = {SPECIAL.get(i, f"t{i}"): i for i in range(VOCABULARY)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(list(SPECIAL.values()))
    core.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text('{"min_pixels": 3136, "max_pixels": 16384}')
    return folder


def pixels(target: Target, number: int = 0, height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    """A random picture of a size that the target takes, near the one given."""
    assert target.picture_format is not None
    size = target.picture_format.size(height, width)
    random = np.random.default_rng(100 + number)
    return random.integers(0, 256, (*size, 3)).astype(np.uint8)


def own_text(
    target: Target,
    prompt: Sequence[int],
    pictures: Sequence[NDArray[np.uint8]],
    count: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[int]:
    """What transformers' own `generate` writes behind a prompt with pictures, with the noise of coupled sampling."""
    vision, module = target.model.vision, target.model.module
    assert vision is not None
    ids = torch.tensor([list(prompt)])
    is_picture = (ids == vision.format.placeholder).long()
    inputs = [vision.inputs(one) for one in pictures]
    joined = {name: _join(name, [one[name] for one in inputs]) for name in (inputs[0] if inputs else ())}
    if vision.rotary_cell:
        module.model.rope_deltas = None
    with torch.inference_mode():
        found = module.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            logits_processor=transformers.LogitsProcessorList(
                [CoupledNoise(target.vocabulary_size, temperature, seed)] if temperature else []
            ),
            **joined,
            **(vision.own_arguments(is_picture) if inputs else {}),
        )
    new: list[int] = found[0, len(prompt) :].tolist()
    return new


def _join(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Several pictures' arguments as one: lists of pictures are joined within the one text."""
    along = int(name == "pixel_values" and parts[0].ndim == 5 and parts[0].shape[1] == 1)
    return torch.cat(list(parts), dim=along)


@contextmanager
def served(folder: Path, template: str | None = None) -> Iterator[SimpleNamespace]:
    """A tiny Qwen2-VL in float64, saved in `folder` with this chat template, on a server: its target, port, folder and
    tokenizer."""
    save(tiny("qwen2_vl"), folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    target = Target.load(folder, dtype="float64", device="cpu", kv_memory="16MiB")
    with serving(target) as server:
        yield SimpleNamespace(
            target=target, port=server.port, folder=folder, tokenizer=Tokenizer.load(folder)
        )
