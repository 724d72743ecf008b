"""The vision encoder of a vision-language model: pixels -> the rows that the language model reads in a picture's place.

The language model runs as any other target does. A family says here how it takes pixels and what it makes of them; the
self-check at load compares the whole with the model's own forward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.pictures import PictureFormat
from edgespec.core.pixel_scale import PixelScale


@dataclass(frozen=True)
class Features:
    """What the encoder makes of a picture: rows [N, D] in place of its tokens' embeddings. deeper: [N, D] each, added
    to these rows behind the decoder's first layers, one after another."""

    rows: torch.Tensor
    deeper: tuple[torch.Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.rows, *self.deeper))


class VisionEncoder(ABC):
    """One family's encoder. module: the vision-language model.

    format: how it takes pictures. rotary_cell: pixels of a side of a cell, where the family turns pictures on three
    axes; 0: a row's rotary position is its index. mutual: a picture's rows see one another, also those behind them.
    """

    format: PictureFormat
    rotary_cell = 0
    mutual = False

    def __init__(self, module: Any, scale: PixelScale) -> None:
        self.module = module
        self.scale = scale

    @abstractmethod
    def inputs(self, pixels: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """The arguments of `get_image_features` for the pixels uint8 [H, W, 3] of a picture of `format`'s size."""

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        """For pixels uint8 [H, W, 3] of a size that `format` takes."""
        with torch.inference_mode():
            output = self.module.base_model.get_image_features(**self.inputs(pixels))
        rows = _flat(output.pooler_output)
        deeper = getattr(output, "deepstack_features", None) or ()
        return Features(rows, tuple(_flat(part) for part in deeper))

    def own_arguments(self, is_picture: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the model's own forward needs beside tokens and pixels. is_picture: int64 [1, N], 1 for rows of
        pictures."""
        return {}

    def _pixels(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """[3, H, W] in the model's dtype, on its device."""
        return torch.from_numpy(self.scale(pixels)).to(self.module.device, self.module.dtype)


def _flat(features: Any) -> torch.Tensor:
    """[N, D] of one picture's features, which families give in several shapes."""
    whole = torch.cat(list(features)) if isinstance(features, (list, tuple)) else features
    return whole.reshape(-1, whole.shape[-1])


def language_model(module: Any) -> Any:
    """The decoder of a vision-language model, without its LM head."""
    base = module.base_model
    return base.language_model if hasattr(base, "language_model") else base.text_model
