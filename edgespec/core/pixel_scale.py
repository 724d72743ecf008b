"""How pixels become what a vision encoder reads, as the image processor beside a model says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.json_files import read_object

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Mean and deviation of a picture's channels, where the folder does not say them."""


@dataclass(frozen=True)
class PixelScale:
    """Pixels 0 to 255 -> what an encoder reads: times `factor`, less the mean, divided by the deviation."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    factor: float = 1 / 255

    @classmethod
    def of(cls, settings: dict[str, Any], default: tuple[tuple[float, ...], tuple[float, ...]]) -> PixelScale:
        """settings: the folder's image processor."""
        mean, deviation = (
            tuple(settings.get(name) or other)
            for name, other in zip(("image_mean", "image_std"), default, strict=True)
        )
        return cls(mean, deviation, float(settings.get("rescale_factor", 1 / 255)))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [H, W, 3] -> float32 [3, H, W], the same bits as transformers' processors without torchvision."""
        scaled = (pixels.astype(np.float64) * self.factor).astype(np.float32)
        mean, deviation = (np.array(values, dtype=np.float32) for values in (self.mean, self.deviation))
        return np.ascontiguousarray(((scaled - mean) / deviation).transpose(2, 0, 1))


def processor_settings(folder: Path) -> dict[str, Any]:
    """The image processor beside a model; empty where there is none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        settings = read_object(folder / name, "copy or download the model again")
        inner = settings.get("image_processor", settings)
        if settings and isinstance(inner, dict):
            return inner
    return {}
