"""The vision encoder of a draft as a torch module, for pictures of one size: Qwen2-VL's.

Whatever depends on the size is a constant, so the graph has no open dimension. It takes the pixels as they are; scaling
them and cutting them into patches belongs to it. export.py turns it into ONNX; nothing imports it at run time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgespec.core.pixel_scale import PixelScale
from edgespec.engines.draft_graph import Product
from edgespec.tensorrt_engines.draft_shape import EyesShape


class VisionGraph(nn.Module):
    """visual: transformers' encoder in float32. scale: how it wants pixels. storage, compute: see `DraftGraph`; norms,
    softmax and residual sums are always float32."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        visual: Any,
        scale: PixelScale,
        shape: EyesShape,
        storage: torch.dtype = torch.float32,
        compute: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.shape, self.scale = shape, scale
        self.patch, self.merge = int(visual.config.patch_size), int(visual.config.spatial_merge_size)
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.tensor(getattr(scale, name)))
        # A still picture's frames are equal, so their weights add up.
        weight = visual.patch_embed.proj.weight.detach().sum(2).flatten(1)
        embed = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        embed.weight = nn.Parameter(weight, requires_grad=False)
        self.embed = Product([embed], storage, compute)
        angles = patch_angles(
            visual.rotary_pos_emb.inv_freq, shape.height // shape.cell, shape.width // shape.cell, self.merge
        )
        blocks = [VisionLayer(block, angles, storage, compute) for block in visual.blocks]
        self.layers = nn.ModuleList(blocks)
        merger = visual.merger
        self.norm = merger.ln_q
        self.merge_in, self.merge_out = (Product([merger.mlp[at]], storage, compute) for at in (0, 2))
        self.activation = merger.mlp[1]

    @property
    def device_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in (*self.parameters(), *self.buffers()))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 [height, width, 3]. Returns float32 [rows, features]."""
        down, across = (side // self.shape.cell for side in (self.shape.height, self.shape.width))
        merge, patch = self.merge, self.patch
        scaled = (pixels.float() * self.scale.factor - self.mean) / self.deviation
        cut = scaled.reshape(down, merge, patch, across, merge, patch, 3)
        hidden = self.embed(cut.permute(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3 * patch * patch))
        for layer in self.layers:
            hidden = layer(hidden)
        merged = self.norm(hidden).reshape(down * across, -1)
        rows: Tensor = self.merge_out(self.activation(self.merge_in(merged)))
        return rows


class VisionLayer(nn.Module):
    """One layer over the N patches of a picture, each of which sees all."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, block: Any, angles: Tensor, storage: torch.dtype, compute: torch.dtype) -> None:
        super().__init__()
        self.compute = compute
        self.heads, self.scaling = int(block.attn.num_heads), float(block.attn.scaling)
        self.attention_norm, self.mlp_norm = block.norm1, block.norm2
        self.projections = Product([block.attn.qkv], storage, compute)
        self.attention_out = Product([block.attn.proj], storage, compute)
        self.mlp_in, self.mlp_out = (
            Product([one], storage, compute) for one in (block.mlp.fc1, block.mlp.fc2)
        )
        self.activation = block.mlp.act
        for name, table in (("cosines", angles.cos()), ("sines", angles.sin())):
            self.register_buffer(name, table)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, width] -> [N, width]."""
        projected = self.projections(self.attention_norm(hidden)).reshape(len(hidden), 3, self.heads, -1)
        query, key, value = projected.permute(1, 2, 0, 3).unbind(0)
        query, key = (
            (one * self.cosines + half_turned(one) * self.sines).to(self.compute) for one in (query, key)
        )
        weights = (query @ key.transpose(1, 2) * self.scaling).float().softmax(-1).to(self.compute)
        mixed = (weights @ value.to(self.compute)).transpose(0, 1).reshape(len(hidden), -1)
        hidden = hidden + self.attention_out(mixed)
        hidden = hidden + self.mlp_out(self.activation(self.mlp_in(self.mlp_norm(hidden))))
        return hidden


def patch_angles(frequencies: Tensor, down: int, across: int, merge: int) -> Tensor:
    """Rotary angles float32 [N, dim] of the patches of down times across cells, those of a cell behind one another.
    frequencies: [dim / 4]."""
    row, column = torch.meshgrid(torch.arange(down * merge), torch.arange(across * merge), indexing="ij")
    places = [
        one.reshape(down, merge, across, merge).transpose(1, 2).reshape(-1, 1).float()
        for one in (row, column)
    ]
    angles = torch.cat([place * frequencies for place in places], -1)
    return torch.cat([angles, angles], -1)


def half_turned(values: Tensor) -> Tensor:
    first, second = values.chunk(2, -1)
    return torch.cat([-second, first], -1)
