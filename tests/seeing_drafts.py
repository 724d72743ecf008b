"""A tiny draft that sees, of Qwen2-VL's shape, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import vision_models
from numpy.typing import NDArray
from tiny_drafts import made_once

import edgespec

HEIGHT, WIDTH = 56, 84


def compiled() -> Path:
    """The folder of its `model` and its `engine`, made once for all tests."""
    return made_once("a draft that sees", _make)


def _make(folder: Path) -> None:
    vision_models.save(vision_models.tiny("qwen2_vl", torch.float32), folder / "model")
    edgespec.compile(
        folder / "model",
        folder / "engine",
        runtime="onnxruntime",
        picture_size=f"{WIDTH}x{HEIGHT}",
        progress=False,
    )


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)
