"""Tiny random models of many families, saved as real ones are, and pieces of trees to run through them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from numpy.typing import ArrayLike, NDArray

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.target import Target
from edgespec.model.target_engine import Decisions, ForwardRequest, OnExit

VOCABULARY = 97
SIZE: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    max_position_embeddings=512,
    initializer_range=0.2,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
WINDOW = 9
SLIDING = {"sliding_window": WINDOW}
MIXED = ["sliding_attention", "full_attention"] * 2
FAMILIES: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**SIZE),
    "llama without groups": transformers.LlamaConfig(**{**SIZE, "num_key_value_heads": 4}),
    "mistral": transformers.MistralConfig(**SIZE, **SLIDING),
    "qwen2": transformers.Qwen2Config(**SIZE),
    "qwen2 mixed": transformers.Qwen2Config(**SIZE, **SLIDING, use_sliding_window=True, layer_types=MIXED),
    "qwen3": transformers.Qwen3Config(**SIZE),
    "gemma2": transformers.Gemma2Config(**SIZE, **SLIDING, layer_types=MIXED, attn_logit_softcapping=5.0),
    "gemma3": transformers.Gemma3TextConfig(**SIZE, **SLIDING, layer_types=MIXED),
    "cohere": transformers.CohereConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"}),
    "granite": transformers.GraniteConfig(**SIZE, logits_scaling=3.0),
    "gpt-j": transformers.GPTJConfig(
        vocab_size=VOCABULARY,
        n_embd=48,
        n_layer=3,
        n_head=4,
        rotary_dim=4,
        n_positions=512,
        initializer_range=0.2,
    ),
    "gpt-neox": transformers.GPTNeoXConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"}),
    "gpt-oss": transformers.GptOssConfig(
        **SIZE, **SLIDING, layer_types=MIXED, num_local_experts=2, num_experts_per_tok=1
    ),
}

LATENT = transformers.DeepseekV2Config(
    **{**SIZE, "num_key_value_heads": 4, "head_dim": 8},
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=12,
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    n_shared_experts=1,
    first_k_dense_replace=1,
)
"""Latent attention: what is cached is expanded in each forward."""


def tiny(family: str = "llama", dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family]), dtype=dtype).eval()


def save(model: Any, folder: Path, tokenizer: bool = True) -> Path:
    model.save_pretrained(folder)
    if tokenizer:
        words = {f"t{i}": i for i in range(VOCABULARY)}
        core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
        core.save(str(folder / "tokenizer.json"))
    return folder


def random_tree(random: np.random.Generator, root: int, count: int, first: int = 1) -> DraftTree:
    tree = DraftTree(root)
    for node in range(first, first + count):
        parent = int(random.choice([ROOT, *range(first, node)]))
        token = next(t for t in random.permutation(VOCABULARY).tolist() if tree.child(parent, t) is None)
        tree.add(node, parent, token, 0.5)
    return tree


def one_piece(length: int = 5, nodes: int = 3) -> Piece:
    text = list(range(10, 10 + length))
    tree = random_tree(np.random.default_rng(6), length, nodes)
    return SlotMap(64).plan(text, length, tree, range(1, nodes + 1))


def forward_one(
    target: Target,
    cache: Any,
    piece: Piece,
    decide: NDArray[np.integer[Any]],
    sampling: SamplingParams,
    seed: int,
    on_exit: OnExit | None = None,
    exit_layers: Sequence[int] | None = None,
) -> Decisions:
    """`forward_batch` of one session."""
    request = ForwardRequest(cache, piece, decide, sampling, seed, on_exit)
    return target.forward_batch([request], exit_layers)[0]


def refusal(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(EdgespecError) as caught:
        Target.load(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows_of(sampling: SamplingParams, seed: int, positions: ArrayLike, seen: Any = None) -> Rows:
    """Rows of which only the choices matter: a chain."""
    count = len(np.asarray(positions))
    tree = DecidedTree(np.arange(-1, count - 1, dtype=np.int32), np.zeros(count, np.int32))
    return Rows(sampling, seed, positions, tree, seen)


def decide(
    logits: torch.Tensor, positions: ArrayLike, sampling: SamplingParams, seed: int, seen: Any = None
) -> Decisions:
    """`decide_together` of one session."""
    return decide_together(logits, [rows_of(sampling, seed, positions, seen)])[0]
