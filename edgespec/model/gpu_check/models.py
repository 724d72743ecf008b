"""Targets of random weights for the steps of a check, and what they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

from edgespec.core.calibration import Calibration
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.kernels.forward_costs import ADAPTER_RANK, EXITS
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.exits import ExitHead, ExitHeads
from edgespec.model.gpu_check.place import Place, Shape
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest, HintAddress

GREEDY, SAMPLED = SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, top_k=50, seed=7)

CURVE = Calibration({0.8: ((np.array([0.0, 4.0]), np.array([0.1, 0.9])),)})


class NobodyListens:
    """A mailbox that sends no hint."""

    def arm(self, sequence: int, watches: Any) -> None:
        pass

    def retire(self, sequence: int) -> list[int]:
        return []


def target_of(shape: Shape, place: Place, exit_bits: int | None = None) -> Target:
    """exit_bits: of the head that its exits read; None: it has none."""
    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=16384,
    )
    with place.device:
        module: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=place.dtype)  # type: ignore[no-untyped-call]
    module.set_attn_implementation(SLOT_ATTENTION)
    loaded = LoadedModel(module.eval().requires_grad_(False), shape.name, bytes(32))
    exits = None if exit_bits is None else _exits(shape, place)
    kv_memory = None if place.device.type == "cuda" else "16MiB"
    target = Target(loaded, exits, kv_memory=kv_memory, exit_bits=exit_bits or 8)
    if target.hint_cells is not None:
        target.hint_cells.mailbox = NobodyListens()
    return target


def _exits(shape: Shape, place: Place) -> ExitHeads:
    """After layers as far from one another as they can be, as `edgespec train exits` puts them."""
    random = torch.Generator(place.device).manual_seed(2)
    rank = min(ADAPTER_RANK, shape.hidden)

    def normal(*size: int) -> torch.Tensor:
        return (torch.randn(size, generator=random, device=place.device) / shape.hidden).to(place.dtype)

    ones = torch.ones(shape.hidden, dtype=place.dtype, device=place.device)
    layers = sorted({max(1, number * shape.layers // (EXITS + 1)) for number in range(1, EXITS + 1)})
    heads = {
        layer: ExitHead(normal(rank, shape.hidden), normal(shape.hidden, rank), ones, CURVE)
        for layer in layers
    }
    return ExitHeads(heads, 1e-5, shape.vocabulary, "")


def request_behind(target: Target, length: int, rows: int, session: int = 0) -> ForwardRequest:
    """A chain of rows behind a text of `length` tokens, whose keys and values are there. It listens to exits."""
    text = [3 + (i + session) % (target.vocabulary_size - 3) for i in range(length)]
    slots = SlotMap(length + SLOT_BUCKET)
    cache = target.open_cache(slots.capacity)
    prompt = slots.plan(text, length - 1, DraftTree(length), [])
    target.forward_batch([ForwardRequest(cache, prompt, np.zeros(0, np.int64), GREEDY, 0)])
    tree = DraftTree(length)
    for node in range(1, rows):
        tree.add(node, ROOT if node == 1 else node - 1, 3 + node, 0.8)
    piece = slots.plan(text, length, tree, list(tree))
    address = HintAddress(session, length, 0, 2.0, np.ones(len(piece), np.uint32), lambda count: None)
    return ForwardRequest(
        cache, piece, np.arange(len(piece)), SAMPLED, 7, on_exit=_heard, hint_address=address
    )


def _heard(rows: ExitRows) -> None:
    """What an exit says is of no use here."""
