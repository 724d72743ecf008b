"""The target's layers run by the native decoder: on the CPU, for the model families that it knows.

Verifying a few rows is bound by memory, and transformers adds a few dozen calls a layer. The native decoder keeps the
weights as narrow as they are exact (a bfloat16 checkpoint loaded as float32 is read as bfloat16), computes in float32
and runs several layers in one call, without the GIL. `Target` compares it with the model's own forward at load time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM
from transformers.models.llama import LlamaModel
from transformers.models.qwen2 import Qwen2Model
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLTextModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

from edgespec import _native
from edgespec.core.slots import SLOT_BUCKET
from edgespec.model.batch import FlatRows
from edgespec.model.kv_cache import KvPool
from edgespec.model.kv_pages import runs
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.masks import Windows, visible
from edgespec.model.quantised import is_whole
from edgespec.model.target_engine import SessionRows

FAMILIES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
LANGUAGE_MODELS = (LlamaModel, Qwen2Model, Qwen2VLTextModel, Qwen2_5_VLTextModel, Qwen3VLTextModel)
"""Those of vision-language models."""


class NativeDecoder:
    """The decoder layers and the LM head of `model`, for which `wanted` makes it."""

    def __init__(self, model: LoadedModel, threads: int) -> None:
        config, decoder = model.config, model.decoder
        first = decoder.layers[0].self_attn
        self._head_width = first.head_dim
        self._model = decoder
        self._pool: KvPool | None = None
        self._decoder = _native.Decoder(
            dim=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_width=first.head_dim,
            mlp_width=config.intermediate_size,
            epsilon=config.rms_norm_eps,
            layers=[_arrays_of(layer) for layer in decoder.layers],
            head=[_matrix(model.module.get_output_embeddings())],
            final_norm=_vector(decoder.norm.weight),
            threads=threads,
        )
        self.layers = len(decoder.layers)

    @classmethod
    def wanted(cls, model: LoadedModel) -> NativeDecoder | None:
        """None where the model's family, dtype, device, layers or pool are not supported."""
        known = type(model.module) in FAMILIES or (
            model.vision is not None and type(model.decoder) in LANGUAGE_MODELS
        )
        floats = model.dtype == model.kv_dtype == torch.float32
        if not known or not floats or model.device.type != "cpu":
            return None
        config = model.config
        windows = Windows.of(config).by_layer_type.values()
        if config.hidden_act != "silu" or any(window is not None for window in windows):
            return None
        if any(_unusual(layer) for layer in model.decoder.layers) or not is_whole(model.head):
            return None
        if model.head.bias is not None:
            return None
        return cls(model, torch.get_num_threads())

    def hidden(
        self, batch: Sequence[SessionRows], flat: FlatRows, pool: KvPool, stops: Sequence[int]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run a batch's rows: yields, after each of the layers `stops` and after the last, the number of layers run
        and the rows float32 [R, D], which the next layers overwrite. flat: the batch's FlatRows."""
        self._use(pool)
        base, pictures = self._model, flat.pictures
        rows = base.embed_tokens(torch.from_numpy(flat.tokens)[None])
        positions = torch.from_numpy(flat.positions)[..., None, :]
        cos, sin = (angles[0].contiguous().numpy() for angles in base.rotary_emb(rows, positions))
        rows = rows[0].contiguous()
        if pictures is not None:
            pictures.put(rows)
            stops = sorted({*stops, *range(1, len(pictures.deeper) + 1)})
        sessions = _sessions_of(batch)
        done = 0
        for stop in [*stops, self.layers]:
            self._decoder.run(done, stop, rows.numpy(), cos, sin, flat.slots, sessions)
            done = stop
            yield stop, rows
            if pictures is not None:
                pictures.add(stop, rows)

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
                empty = torch.empty(1, config.num_key_value_heads, 0, self._head_width)
                layer.lazy_initialization(empty, empty)
        self._decoder.remember_in(
            [layer.keys.numpy() for layer in pool.pool_layers],
            [layer.values.numpy() for layer in pool.pool_layers],
        )
        self._pool = pool


def _sessions_of(batch: Sequence[SessionRows]) -> list[tuple[int, int, NDArray[np.uint8], NDArray[np.int64]]]:
    """Each session's rows [first, last), which of its slots they see, and where in the pool those are."""
    sessions, first = [], 0
    for one in batch:
        pages = one.piece.cached.shape[1] // SLOT_BUCKET
        last = first + len(one.piece)
        sessions.append((first, last, visible(one.piece).view(np.uint8), runs(one.cache.pages[:pages])))
        first = last
    return sessions


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
    """Whether a layer has what the native decoder lacks: other linear layers, other biases, hooks."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    plain = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    if not all(map(is_whole, (*inputs, *plain))):
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
