"""The vision encoder while it trains: transformers' own weights, in a forward that is quick on a CPU.

All pictures have one size, so a batch needs no lengths, its rotations are constants, and Conv3d over single patches is
a matrix product; a still picture's frames are equal, so that their weights add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.pixel_scale import CLIP
from edgespec.engines.vision_graph import half_turned, patch_angles
from edgespec.robot.rooms import COLOURS, KINDS
from edgespec.train.robot.lessons import CELLS, COLUMNS, ROWS, CellLabels, Scene
from edgespec.train.robot.shape import MERGE, PATCH

MEAN, DEVIATION = np.array(CLIP, np.float32)
"""Of pixels, as Qwen2-VL's image processor has them."""

PATCHES = CELLS * MERGE * MERGE
GRID = (1, ROWS * MERGE, COLUMNS * MERGE)

BEARING_BINS, DISTANCE_BINS = 21, 20
FARTHEST_M = 5.0
WIDEST_SHOWN = 60.0


def patches(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """float32 [B, PATCHES, 3 * PATCH²] of uint8 [B, H, W, 3], in Qwen2-VL's order: the patches of a cell follow each
    other."""
    pixels = (pictures.astype(np.float32) / 255 - MEAN) / DEVIATION
    cut = pixels.reshape(-1, ROWS, MERGE, PATCH, COLUMNS, MERGE, PATCH, 3)
    ordered = cut.transpose(0, 1, 4, 2, 5, 7, 3, 6)
    return torch.from_numpy(np.ascontiguousarray(ordered).reshape(len(pictures), PATCHES, -1))


def encode(visual: Any, rows: torch.Tensor) -> torch.Tensor:
    """Features [B, CELLS, W] of `patches`: what `visual` itself returns for them."""
    weight = visual.patch_embed.proj.weight
    hidden = torch.nn.functional.linear(rows.to(weight.dtype), weight.sum(2).flatten(1))
    angles = patch_angles(visual.rotary_pos_emb.inv_freq, ROWS, COLUMNS, MERGE)
    cos, sin = angles.cos(), angles.sin()
    for block in visual.blocks:
        hidden = hidden + _attend(block.attn, block.norm1(hidden), cos, sin)
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged = visual.merger.ln_q(hidden).reshape(len(rows), CELLS, -1)
    features: torch.Tensor = visual.merger.mlp(merged)
    return features


def _attend(attention: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    batch, length, width = hidden.shape
    query, key, value = (
        attention.qkv(hidden).view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    )
    query, key = (one * cos + half_turned(one) * sin for one in (query, key))
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    out: torch.Tensor = attention.proj(mixed.transpose(1, 2).reshape(batch, length, width))
    return out


class CellHead(torch.nn.Module):
    """Reads each cell's labels from its features; needed while training only."""

    SIZES = (len(COLOURS) + 1, len(KINDS) + 1, BEARING_BINS, DISTANCE_BINS)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.read = torch.nn.Linear(width, sum(self.SIZES))

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Logits [B * CELLS, n] of colours, kinds (the last of each: nothing), bearings and distances."""
        return list(self.read(self.norm(features)).flatten(0, 1).split(self.SIZES, -1))

    def loss(self, features: torch.Tensor, labels: Sequence[CellLabels]) -> torch.Tensor:
        colour, kind, bearing, distance = self.forward(features)
        colours = torch.from_numpy(np.concatenate([one.colour for one in labels]))
        kinds = torch.from_numpy(np.concatenate([one.kind for one in labels]))
        there = colours >= 0
        cross = torch.nn.functional.cross_entropy
        total = cross(colour, torch.where(there, colours, len(COLOURS)))
        total = total + cross(kind, torch.where(there, kinds, len(KINDS)))
        bearings = np.concatenate([one.bearing for one in labels])[there.numpy()]
        distances = np.concatenate([one.distance for one in labels])[there.numpy()]
        total = total + 0.3 * cross(bearing[there], _soft(_bearing_places(bearings), BEARING_BINS))
        return total + 0.3 * cross(distance[there], _soft(_distance_places(distances), DISTANCE_BINS))


def _bearing_places(bearings: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((bearings + WIDEST_SHOWN) / (2 * WIDEST_SHOWN) * (BEARING_BINS - 1), np.float32)


def _distance_places(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(distances / FARTHEST_M * (DISTANCE_BINS - 1), np.float32)


def _soft(places: NDArray[np.float32], bins: int) -> torch.Tensor:
    """float32 [N, bins]: shares of the two bins that each place lies between."""
    clipped = np.clip(places, 0, bins - 1.001)
    low = np.floor(clipped).astype(np.int64)
    shares = np.zeros((len(places), bins), np.float32)
    rows = np.arange(len(places))
    shares[rows, low] = 1 - (clipped - low)
    shares[rows, low + 1] = clipped - low
    return torch.from_numpy(shares)


def seen_by(visual: Any, scenes: Sequence[Scene]) -> torch.Tensor:
    """Features [B, CELLS, W] of the scenes' pictures."""
    return encode(visual, patches(np.stack([scene.picture for scene in scenes])))
