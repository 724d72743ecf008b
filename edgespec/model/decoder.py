"""The target's layers run by the native decoder: on the CPU, for the model families that it knows.

A verification of a few rows waits for memory, and transformers adds a few dozen calls a layer. The native decoder
keeps the weights as narrow as they are exact (a bfloat16 checkpoint loaded as float32 is read as bfloat16), computes
in float32 and runs a stretch of layers in one call, without the GIL. `Target` compares it with the model's own
forward when it loads, and uses the model itself where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from edgespec import _native
from edgespec.core.slots import SLOT_BUCKET
from edgespec.model.batch import Pieces, Rows
from edgespec.model.kv_cache import KvPool
from edgespec.model.masks import Windows, visible

FAMILIES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)


class NativeDecoder:
    """The decoder layers and the LM head of `model`; `wanted` says whether it can be had."""

    def __init__(self, model: Any, threads: int) -> None:
        config = model.config
        first = model.model.layers[0].self_attn
        self._model = model
        self._pool: KvPool | None = None
        self._decoder = _native.Decoder(
            dim=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_width=first.head_dim,
            mlp_width=config.intermediate_size,
            epsilon=config.rms_norm_eps,
            layers=[_arrays_of(layer) for layer in model.model.layers],
            head=[_matrix(model.lm_head)],
            final_norm=_vector(model.model.norm.weight),
            threads=threads,
        )
        self.layers = len(model.model.layers)

    @classmethod
    def wanted(cls, model: Any) -> NativeDecoder | None:
        """None where the model is of another family, type or device, or differs from its family's layers."""
        if type(model) not in FAMILIES or model.dtype != torch.float32 or model.device.type != "cpu":
            return None
        config = model.config
        windows = Windows.of(config).by_layer_type.values()
        if config.hidden_act != "silu" or any(window is not None for window in windows):
            return None
        if any(_unusual(layer) for layer in model.model.layers) or type(model.lm_head) is not torch.nn.Linear:
            return None
        if model.lm_head.bias is not None:
            return None
        return cls(model, torch.get_num_threads())

    def hidden(
        self,
        pieces: Pieces,
        batch: Rows,
        pool: KvPool,
        stops: Sequence[int],
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run the rows of `pieces`, laid end to end in `batch`: yields, after each of the layers `stops` and after the
        last, the number of layers run and the rows float32 [R, D], which the next layers overwrite."""
        self._use(pool)
        base = self._model.model
        rows = base.embed_tokens(torch.from_numpy(batch.tokens)[None])
        positions = torch.from_numpy(batch.positions)[None]
        cos, sin = (angles[0].contiguous().numpy() for angles in base.rotary_emb(rows, positions))
        rows = rows[0].contiguous()
        parts = _parts_of(pieces)
        done = 0
        for stop in [*stops, self.layers]:
            self._decoder.run(done, stop, rows.numpy(), cos, sin, batch.slots, parts)
            done = stop
            yield stop, rows

    def logits(self, rows: NDArray[np.float32]) -> torch.Tensor:
        """Logits float32 [D, V] of rows [D, dim] after the last layer."""
        return torch.from_numpy(self._decoder.logits(rows))

    def guess(
        self,
        rows: torch.Tensor,
        norm: torch.Tensor,
        epsilon: float,
        temperatures: NDArray[np.float32],
        seeds: NDArray[np.uint64],
        positions: NDArray[np.int32],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What the exit_head kernel says of rows [R, D] with this LM head: tokens [R] (-1: no numbers) and margins."""
        return self._decoder.guess(rows.numpy(), norm.numpy(), epsilon, temperatures, seeds, positions)

    def _use(self, pool: KvPool) -> None:
        if pool is self._pool:
            return
        config = self._model.config
        for layer in pool.pool_layers:
            if not layer.is_initialized:
                empty = torch.empty(
                    1, config.num_key_value_heads, 0, self._model.model.layers[0].self_attn.head_dim
                )
                layer.lazy_initialization(empty, empty)
        self._decoder.remember_in(
            [layer.keys.numpy() for layer in pool.pool_layers],
            [layer.values.numpy() for layer in pool.pool_layers],
        )
        self._pool = pool


def _parts_of(
    pieces: Pieces,
) -> list[tuple[int, int, NDArray[np.uint8], NDArray[np.int64]]]:
    """Each session's rows, which of its slots they see, and where in the pool those are."""
    parts = []
    first = 0
    for cache, piece, _ in pieces:
        pages = piece.cached.shape[1] // SLOT_BUCKET
        runs = _runs(cache.pages[:pages])
        parts.append((first, first + len(piece), visible(piece).view(np.uint8), runs))
        first += len(piece)
    return parts


def _runs(pages: Sequence[int]) -> NDArray[np.int64]:
    """Pages as stretches [n, 3]: a session's first slot, the pool's, and how many lie side by side."""
    if (
        len(pages)
        and pages[-1] - pages[0] == len(pages) - 1
        and list(pages) == [*range(pages[0], pages[-1] + 1)]
    ):
        return np.array([[0, pages[0], len(pages)]], dtype=np.int64) * SLOT_BUCKET
    numbers = np.asarray(pages, dtype=np.int64)
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(numbers))
    return np.stack([starts, numbers[starts], lengths], axis=1) * SLOT_BUCKET


def _arrays_of(layer: Any) -> tuple[Any, ...]:
    """A decoder layer as `_native.Decoder` takes it."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    biased = attention.q_proj.bias is not None
    return (
        [_matrix(linear) for linear in inputs],
        [_matrix(attention.o_proj)],
        [_matrix(mlp.gate_proj), _matrix(mlp.up_proj)],
        [_matrix(mlp.down_proj)],
        _vector(layer.input_layernorm.weight),
        _vector(layer.post_attention_layernorm.weight),
        _vector(torch.cat([linear.bias for linear in inputs])) if biased else None,
        _vector(attention.q_norm.weight) if hasattr(attention, "q_norm") else None,
        _vector(attention.k_norm.weight) if hasattr(attention, "k_norm") else None,
    )


def _unusual(layer: Any) -> bool:
    """Whether a layer has what the native decoder lacks: other kinds of linear layers, biases elsewhere, hooks."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    plain = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    if any(type(linear) is not torch.nn.Linear for linear in (*inputs, *plain)):
        return True
    if any(linear.bias is not None for linear in plain):
        return True
    if len({linear.bias is None for linear in inputs}) != 1:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())


def _matrix(linear: torch.nn.Linear) -> NDArray[np.float32]:
    array: NDArray[np.float32] = linear.weight.detach().contiguous().numpy()
    return array


def _vector(weight: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = weight.detach().float().contiguous().numpy()
    return array
