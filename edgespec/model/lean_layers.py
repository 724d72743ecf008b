"""The target's layers in ten kernels each, on a GPU: for the model families whose layers are known.

Between the four matrix products of a layer and its attention over pages, each step is one kernel
(edgespec.kernels.layer). Queries, keys and values are one product, and so are gate and up: their weights are joined at
load, and the modules' own become views of them. `Target` compares the outcome with the model's own forward at load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import (
    Gemma2Model,
    Gemma3TextModel,
    GemmaModel,
    LlamaModel,
    MistralModel,
    Qwen2Model,
    Qwen3Model,
)
from transformers.activations import ACT2FN

from edgespec.kernels.layer import gated, residual_norm, rotary_write
from edgespec.kernels.layer_data import HeadNorms, Norm
from edgespec.kernels.tree_attention import tree_attention
from edgespec.kernels.variants import ROW_WIDTHS
from edgespec.model.batch import ModuleInputs
from edgespec.model.kv_cache import KvPool
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.paged_attention import PagedAttention, PagedLayout
from edgespec.model.quantised import is_whole
from edgespec.model.turns import Turns

UNIT_NORMS = {
    LlamaModel: False,
    MistralModel: False,
    Qwen2Model: False,
    Qwen3Model: False,
    GemmaModel: True,
    Gemma2Model: True,
    Gemma3TextModel: True,
}
"""The decoders whose layers are known, and whether their norms add 1 to the weight."""

SILU, GELU = type(ACT2FN["silu"]), type(ACT2FN["gelu_pytorch_tanh"])


@dataclass(frozen=True)
class Product:
    """Linear layers of the same rows as one: weight [sum of outputs, D], bias or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, *linears: torch.nn.Linear) -> Product:
        """The linears' own weights become views of the joined ones."""
        if len(linears) == 1:
            return cls(linears[0].weight.data, None if linears[0].bias is None else linears[0].bias.data)
        return cls(
            _joined([one.weight for one in linears]),
            None if linears[0].bias is None else _joined([one.bias for one in linears]),
        )

    def __call__(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight, self.bias)


@dataclass(frozen=True)
class LeanLayer:
    """kind: its type, which says how far back it sees and how positions turn. before, middle: the norms of what
    attention and the MLP read. after_attention, after_mlp: weights of the norms of what they add, or None. heads: the
    norms of queries and keys, or None."""

    kind: str
    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    before: Norm
    middle: Norm
    after_attention: Tensor | None
    after_mlp: Tensor | None
    heads: HeadNorms | None
    scale: float
    softcap: float

    @classmethod
    def of(cls, layer: Any, kind: str, epsilon: float, unit: bool) -> LeanLayer:
        attention, mlp = layer.self_attn, layer.mlp
        after = hasattr(layer, "pre_feedforward_layernorm")
        middle = layer.pre_feedforward_layernorm if after else layer.post_attention_layernorm
        normed = hasattr(attention, "q_norm")
        return cls(
            kind,
            qkv=Product.of(attention.q_proj, attention.k_proj, attention.v_proj),
            out=Product.of(attention.o_proj),
            gate_up=Product.of(mlp.gate_proj, mlp.up_proj),
            down=Product.of(mlp.down_proj),
            before=Norm(layer.input_layernorm.weight.data, epsilon, unit),
            middle=Norm(middle.weight.data, epsilon, unit),
            after_attention=layer.post_attention_layernorm.weight.data if after else None,
            after_mlp=layer.post_feedforward_layernorm.weight.data if after else None,
            heads=HeadNorms(attention.q_norm.weight.data, attention.k_norm.weight.data, unit, epsilon)
            if normed
            else None,
            scale=attention.scaling,
            softcap=getattr(attention, "attn_logit_softcapping", None) or 0.0,
        )


class LeanLayers:
    """All layers of one model, over the pages of its pool."""

    def __init__(self, model: LoadedModel, paged: PagedAttention) -> None:
        config, decoder = model.config, model.decoder
        epsilon, unit = config.rms_norm_eps, UNIT_NORMS[type(decoder)]
        kinds = [*model.windows.by_layer_type]
        of_layers = getattr(config, "layer_types", None) or kinds * len(decoder.layers)
        self._decoder = decoder
        self._backend = paged.backend
        self._gelu = isinstance(decoder.layers[0].mlp.act_fn, GELU)
        self._norm = Norm(decoder.norm.weight.data, epsilon, unit)
        self._kv_heads, self._width = paged.groups.kv_heads, decoder.layers[0].self_attn.head_dim
        self.layers = [
            LeanLayer.of(layer, kind, epsilon, unit)
            for layer, kind in zip(decoder.layers, of_layers, strict=True)
        ]
        self._turns = Turns(
            decoder.rotary_emb,
            sorted({layer.kind for layer in self.layers}),
            isinstance(decoder, Gemma3TextModel),
            self._norm.weight,
            model.context_length,
        )

    @classmethod
    def wanted(cls, model: LoadedModel, paged: PagedAttention | None) -> LeanLayers | None:
        """None where attention does not read pages, or the model's layers are not known, or too wide."""
        if paged is None or model.vision is not None or type(model.decoder) not in UNIT_NORMS:
            return None
        if model.config.hidden_size > ROW_WIDTHS[-1]:
            return None
        layers = list(model.decoder.layers)
        if not all(isinstance(layer.mlp.act_fn, (SILU, GELU)) for layer in layers) or any(
            map(unusual, layers)
        ):
            return None
        return cls(model, paged)

    def hidden(
        self, inputs: ModuleInputs, pool: KvPool, stops: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Run a batch's rows: yields, after each of the layers `stops`, the number of layers run and the rows [R, D];
        then all layers and the rows that the LM head reads."""
        rows = self._decoder.embed_tokens(inputs.tokens)[0]
        turns = self._turns(inputs.positions)
        plans = self._plans(inputs)
        residual, normed = residual_norm(None, rows, self.layers[0].before, backend=self._backend)
        for number, layer in enumerate(self.layers, 1):
            memory = pool.pool_layers[number - 1]
            if not memory.is_initialized:
                empty = rows.new_empty(1, self._kv_heads, 0, self._width)
                memory.lazy_initialization(empty, empty)
            keys, values = memory.keys[0], memory.values[0]
            query = rotary_write(
                layer.qkv(normed), *turns[layer.kind], inputs.slots, keys, values, norms=layer.heads,
                backend=self._backend,
            )  # fmt: skip
            read = tree_attention(
                query, keys, values, plans[layer.kind], scale=layer.scale, softcap=layer.softcap,
                backend=self._backend,
            )  # fmt: skip
            residual, normed = residual_norm(
                layer.out(read.flatten(1)), residual, layer.middle, post=layer.after_attention,
                backend=self._backend,
            )  # fmt: skip
            product = gated(layer.gate_up(normed), gelu=self._gelu, backend=self._backend)
            following = self._norm if number == len(self.layers) else self.layers[number].before
            residual, normed = residual_norm(
                layer.down(product), residual, following, post=layer.after_mlp, backend=self._backend
            )
            if number in stops:
                yield number, residual
        yield len(self.layers), normed

    def _plans(self, inputs: ModuleInputs) -> dict[str, Any]:
        masks, layout = inputs.attention.masks, inputs.attention.layout
        assert isinstance(layout, PagedLayout)
        kinds = {layer.kind for layer in self.layers}
        return {kind: layout.plan_of(masks[kind] if isinstance(masks, dict) else masks) for kind in kinds}


def unusual(layer: Any) -> bool:
    """Whether a layer has what a joined product lacks: other linear layers, weights quantised in place, hooks."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    gates = (mlp.gate_proj, mlp.up_proj)
    if not all(map(is_whole, (*inputs, attention.o_proj, *gates, mlp.down_proj))):
        return True
    if any(len({one.bias is None for one in joined}) != 1 for joined in (inputs, gates)):
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())


def _joined(parameters: Sequence[Tensor]) -> Tensor:
    joined = torch.cat([one.data for one in parameters])
    first = 0
    for parameter in parameters:
        parameter.data = joined[first : first + len(parameter)]
        first += len(parameter)
    return joined
