"""The draft's graph as a torch module: rows x slots attention over a slot-and-mask cache, and the choice.

export.py turns it into ONNX; nothing imports it at run time. Every row attends to the cached slots that `cached`
allows and to the rows of the same run that `among` allows. The cache is read in place and never copied: the graph
returns the new rows' keys and values, and the runtime puts them into their slots. The weights are those of a
transformers model whose layers are Llama's (Llama, Mistral, Qwen2, Qwen3, ...).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgespec.tensorrt_engines.draft_shape import DraftShape

CHOICES = 4
"""How many of the best tokens a row returns."""


class UnlikeLlama(Exception):
    """The model's layers are not Llama's; the message says what is missing."""


class DraftGraph(nn.Module):
    """One run of the draft over R rows, W cached slots, D deciding rows and P rows of noise.

    model: a transformers causal LM in float32. capacity: positions, and slots, that the engine serves. storage: the
    type in which matrices are kept; embedding: that of the embeddings, if another. compute: the type in which
    matrices multiply, and of the cache. Norms, softmax, residual sums and scores are always float32.
    Raises UnlikeLlama.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(
        self,
        model: nn.Module,
        capacity: int,
        storage: torch.dtype = torch.float32,
        compute: torch.dtype = torch.float32,
        embedding: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.compute = compute
        body = language_body(model)
        table, head = _part(body, "embed_tokens").weight, _part(model, "lm_head")
        self.embedding = nn.Parameter(table.detach().to(embedding or storage), requires_grad=False)
        layers = [DraftLayer(layer, storage, compute) for layer in _part(body, "layers")]
        self.layers = nn.ModuleList(layers)
        self.heads, kv_heads, head_dim = layers[0].heads, layers[0].kv_heads, layers[0].head_dim
        self.norm = RootMeanSquareNorm(_part(body, "norm"))
        self.head = Product([head], storage, compute)
        if head.weight is table and self.embedding.dtype == storage:
            self.head.weight = self.embedding
        vocabulary_size = self.head.weight.shape[0]
        self.shape = DraftShape(len(layers), kv_heads, head_dim, vocabulary_size, capacity, CHOICES)
        cosines, sines = _rotations(_part(body, "rotary_emb"), capacity)
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def empty_cache(self, slots: int) -> list[Tensor]:
        """What `forward` takes as `cache`, for `slots` slots."""
        shape = (slots, self.shape.kv_heads, self.shape.head_dim)
        return [torch.zeros(shape, dtype=self.compute) for _ in self.layers for _ in range(2)]

    def device_bytes(self, slots: int) -> int:
        """Bytes of the weights and a cache of `slots` slots, without a run's scratch memory."""
        kept = sum(tensor.nbytes for tensor in (*self.parameters(), *self.buffers()))
        return kept + slots * sum(tensor.nbytes for tensor in self.empty_cache(1))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        cached: Tensor,
        among: Tensor,
        decide: Tensor,
        noise: Tensor,
        noise_rows: Tensor,
        inverse_temperature: Tensor,
        cache: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Best tokens, their scores, and the new rows of the cache.

        tokens, positions: int32 [R]. cached: bool [R, W]. among: bool [R, R]. decide: int32 [D], the rows
        that choose. noise: float32 [P, V]. noise_rows: int32 [D], each deciding row's row of `noise`.
        inverse_temperature: float32 []. cache: layer 0's keys, layer 0's values, layer 1's keys, ...; each
        `compute` [W, kv_heads, head_dim].
        Returns int32 [D, CHOICES], float32 [D, CHOICES] (logit * inverse_temperature + noise, best first,
        ties to the lower id) and `compute` [2 * layers, R, kv_heads, head_dim] in the order of `cache`.
        """
        rotation = take(self.cosines, positions).unsqueeze(1), take(self.sines, positions).unsqueeze(1)
        hidden = take(self.embedding, tokens).float()
        new = self._through_layers(hidden, rotation, cached, among, cache)
        return self._choose(new, decide, noise, noise_rows, inverse_temperature)

    def _through_layers(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        cached: Tensor,
        among: Tensor,
        cache: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The rows [R, width] behind the last layer, and the new keys and values in the order of `cache`."""
        bias = torch.where(torch.cat([cached, among], dim=1), 0.0, -torch.inf)
        if (group := self.heads // self.shape.kv_heads) > 1:
            bias = bias.unsqueeze(1).expand(-1, group, -1).flatten(0, 1)
        rows: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            hidden, keys, values = layer(hidden, rotation, bias, *cache[2 * index : 2 * index + 2])
            rows += [keys, values]
        return hidden, rows

    def _choose(
        self,
        new: tuple[Tensor, list[Tensor]],
        decide: Tensor,
        noise: Tensor,
        noise_rows: Tensor,
        inverse_temperature: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` returns. new: of `_through_layers`."""
        hidden, rows = new
        logits = self.head(self.norm(take(hidden, decide)))
        scores = logits * inverse_temperature + take(noise, noise_rows)
        best_scores, best = torch.topk(scores, CHOICES, dim=-1)
        return best.to(torch.int32), best_scores, torch.stack(rows)


class DraftLayer(nn.Module):
    """One decoder layer. Attention's three projections are one product, and so are the MLP's two."""

    def __init__(self, layer: nn.Module, storage: torch.dtype, compute: torch.dtype) -> None:
        super().__init__()
        self.compute = compute
        attention, mlp = _part(layer, "self_attn"), _part(layer, "mlp")
        query, key, value = (_part(attention, name) for name in ("q_proj", "k_proj", "v_proj"))
        self.head_dim = int(_part(attention, "head_dim"))
        self.heads = query.out_features // self.head_dim
        self.kv_heads = key.out_features // self.head_dim
        self.scaling = float(_part(attention, "scaling"))
        self.group = self.heads // self.kv_heads
        self.head_norm = _head_norm(attention, self.heads, self.kv_heads)
        self.attention_norm = RootMeanSquareNorm(_part(layer, "input_layernorm"))
        self.mlp_norm = RootMeanSquareNorm(_part(layer, "post_attention_layernorm"))
        self.projections = Product([query, key, value], storage, compute)
        self.attention_out = Product([_part(attention, "o_proj")], storage, compute)
        self.gate_and_up = Product([_part(mlp, "gate_proj"), _part(mlp, "up_proj")], storage, compute)
        self.inner = _part(mlp, "gate_proj").out_features
        self.activation = _part(mlp, "act_fn")
        self.mlp_out = Product([_part(mlp, "down_proj")], storage, compute)

    def forward(
        self,
        hidden: Tensor,
        rotation: tuple[Tensor, Tensor],
        bias: Tensor,
        old_keys: Tensor,
        old_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """hidden [R, width] -> the layer's output [R, width], and its new keys and values [R, kv_heads, head_dim]."""
        projected: Tensor = self.projections(self.attention_norm(hidden))
        projected = projected.view(-1, self.heads + 2 * self.kv_heads, self.head_dim)
        rotated, values = torch.split(projected, [self.heads + self.kv_heads, self.kv_heads], dim=1)
        rotated = _rotate(self.head_norm(rotated), *rotation)
        query, keys = torch.split(rotated.to(self.compute), [self.heads, self.kv_heads], dim=1)
        values = values.to(self.compute)
        mixed = self._attend(query, keys, values, bias, old_keys, old_values)
        hidden = hidden + self.attention_out(mixed)
        gate, up = self.gate_and_up(self.mlp_norm(hidden)).split(self.inner, dim=-1)
        return hidden + self.mlp_out(self.activation(gate) * up), keys, values

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, old_keys: Tensor, old_values: Tensor
    ) -> Tensor:
        """One softmax over cached slots and new rows; query heads that share a key head are one product.

        query: [R, heads, head_dim]. keys, values: [R, kv_heads, head_dim]. bias: [R * group, W + R], 0 or -inf.
        """
        rows, slots = query.shape[0], old_keys.shape[0]
        query = query.view(rows, self.kv_heads, self.group, self.head_dim).transpose(0, 1)
        query = query.reshape(self.kv_heads, -1, self.head_dim)
        old = torch.bmm(query, old_keys.permute(1, 2, 0)) * self.scaling
        new = torch.bmm(query, keys.permute(1, 2, 0)) * self.scaling
        weights = (torch.cat([old, new], dim=-1).float() + bias).softmax(dim=-1).to(self.compute)
        old, new = torch.split(weights, [slots, keys.shape[0]], dim=-1)
        mixed = torch.bmm(old, old_values.transpose(0, 1)) + torch.bmm(new, values.transpose(0, 1))
        mixed = mixed.float().view(self.kv_heads, rows, self.group, self.head_dim)
        return mixed.transpose(0, 1).reshape(rows, -1)


class Product(nn.Module):
    """Linear layers of one float32 input as one product; their outputs side by side, in float32."""

    def __init__(self, parts: list[nn.Linear], storage: torch.dtype, compute: torch.dtype) -> None:
        super().__init__()
        self.compute = compute
        weight = torch.cat([part.weight.detach() for part in parts]).to(storage)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias: Tensor | None = None
        if any(part.bias is not None for part in parts):
            biases: list[Tensor] = [
                torch.zeros(len(part.weight)) if part.bias is None else part.bias for part in parts
            ]
            self.bias = nn.Parameter(torch.cat(biases).detach().to(compute), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        product = nn.functional.linear(hidden.to(self.compute), self.weight.to(self.compute), self.bias)
        return product.float()


class RootMeanSquareNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension."""

    def __init__(self, norm: nn.Module, weight: Tensor | None = None) -> None:
        super().__init__()
        weight = _part(norm, "weight") if weight is None else weight
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.epsilon = float(_part(norm, "variance_epsilon"))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden / torch.sqrt(hidden.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def take(table: Tensor, indices: Tensor) -> Tensor:
    """table[indices], by the operator (Gather) that takes int32 indices."""
    return nn.functional.embedding(indices, table)


def _rotate(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions, halves paired as in transformers. heads: [R, n, dim]. cosines, sines: [R, 1, dim]."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat([second, first], dim=-1) * sines


def _rotations(rotary: nn.Module, capacity: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [capacity, dim] by the model's own rotary module; the sines' first half negated."""
    with torch.no_grad():
        cosines, sines = rotary(torch.zeros(1), torch.arange(capacity).unsqueeze(0))
    sines[..., : sines.shape[-1] // 2] *= -1
    return cosines[0].float(), sines[0].float()


def _head_norm(attention: nn.Module, heads: int, kv_heads: int) -> nn.Module:
    """Qwen3's norm of each query and key head, as one norm over both; identity for other models."""
    if not hasattr(attention, "q_norm"):
        return nn.Identity()
    query, key = _part(attention, "q_norm"), _part(attention, "k_norm")
    weight = torch.cat([_part(query, "weight").expand(heads, -1), _part(key, "weight").expand(kv_heads, -1)])
    return RootMeanSquareNorm(query, weight)


def language_body(model: nn.Module) -> Any:
    """The decoder of a causal LM, or of a vision-language model."""
    base = _part(model, "model")
    return getattr(base, "language_model", base)


def _part(owner: nn.Module, name: str) -> Any:
    if not hasattr(owner, name):
        raise UnlikeLlama(f"{type(owner).__name__} has no {name}")
    return getattr(owner, name)
