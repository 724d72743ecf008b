"""The families of vision-language models: how each takes pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray

from edgespec.core.pictures import MAX_PIXELS, PictureFormat
from edgespec.core.pixel_scale import CLIP, HALF, IMAGENET, PixelScale, processor_settings
from edgespec.model.vision import VisionEncoder


class GridEncoder(VisionEncoder):
    """Qwen's encoders: a picture of any size in whole cells, turned on three axes."""

    def __init__(
        self,
        module: Any,
        folder: Path,
        default_scale: tuple[tuple[float, ...], tuple[float, ...]],
        pixels: tuple[int, int],
    ) -> None:
        """pixels: the least and the most of a picture, where the folder does not say them."""
        settings, config = processor_settings(folder), module.config
        super().__init__(module, PixelScale.of(settings, default_scale))
        vision = config.vision_config
        self._patch, self._merge = vision.patch_size, vision.spatial_merge_size
        self._frames = vision.temporal_patch_size
        self.rotary_cell = cell = self._patch * self._merge
        size = settings.get("size") or {}
        least = settings.get("min_pixels") or size.get("shortest_edge") or pixels[0]
        most = settings.get("max_pixels") or size.get("longest_edge") or pixels[1]
        room = config.get_text_config().max_position_embeddings // 2 * cell**2
        self.format = PictureFormat(
            placeholder=config.image_token_id,
            mark=config.image_token_id,
            before=_one(config, "vision_start_token_id"),
            after=_one(config, "vision_end_token_id"),
            cell=cell,
            min_pixels=min(max(least, cell**2), most, room),
            max_pixels=min(most, room, MAX_PIXELS),
        )

    def inputs(self, pixels: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        height, width = (side // self._patch for side in pixels.shape[:2])
        patch, merge = self._patch, self._merge
        cells = self._pixels(pixels).reshape(3, height // merge, merge, patch, width // merge, merge, patch)
        patches = cells.permute(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        patches = patches.expand(*patches.shape[:5], self._frames, patch, patch)
        grid = torch.tensor([[1, height, width]], device=self.module.device)
        return {"pixel_values": patches.reshape(height * width, -1), "image_grid_thw": grid}

    def own_arguments(self, is_picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mm_token_type_ids": is_picture}


class TileEncoder(VisionEncoder):
    """Encoders whose pictures have one size: that of the vision model."""

    def __init__(
        self,
        module: Any,
        folder: Path,
        default_scale: tuple[tuple[float, ...], tuple[float, ...]],
        shape: Callable[[torch.Tensor], dict[str, torch.Tensor]],
        around: tuple[Sequence[str], Sequence[str]] = ((), ()),
        mark: str | None = None,
        mutual: bool = False,
    ) -> None:
        """shape: a picture's pixels [3, H, W] as the arguments of get_image_features. around: special tokens before and
        after a picture, as far as the tokenizer has them. mark: what the chat template writes for a picture, where that
        is not the placeholder. mutual: see `VisionEncoder`."""
        super().__init__(module, PixelScale.of(processor_settings(folder), default_scale))
        self._shape, self.mutual = shape, mutual
        size = module.config.vision_config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        placeholder = module.config.image_token_id
        file = folder / "tokenizer.json"
        core = tokenizers.Tokenizer.from_file(str(file)) if file.is_file() else None
        ids = [[core.token_to_id(token) for token in tokens] if core else [] for tokens in around]
        before, after = (tuple(token for token in one if token is not None) for one in ids)
        self.format = PictureFormat(
            placeholder=placeholder,
            mark=placeholder if mark is None or core is None else core.token_to_id(mark) or placeholder,
            before=before,
            after=after,
            height=height,
            width=width,
            rows=len(self.encode(np.zeros((height, width, 3), np.uint8)).rows),
        )

    def inputs(self, pixels: NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        return self._shape(self._pixels(pixels))

    def own_arguments(self, is_picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"token_type_ids": is_picture} if self.mutual else {}


def _one(config: Any, name: str) -> tuple[int, ...]:
    token = getattr(config, name, None)
    return () if token is None else (int(token),)


def _batch(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": pixels[None]}


def _batch_of_lists(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": pixels[None, None]}


def _tile_and_whole(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """LLaVA-OneVision reads the whole picture and its tiles; of this size the one tile is the whole."""
    sizes = torch.tensor([pixels.shape[1:]], device=pixels.device)
    return {"pixel_values": torch.stack([pixels, pixels])[None], "image_sizes": sizes}


_GEMMA = (("\n\n", "<start_of_image>"), ("<end_of_image>", "\n\n"))
_QWEN_PIXELS = (56 * 56, 28 * 28 * 1280)
_IDEFICS = (("<fake_token_around_image>", "<global-img>"), ("<fake_token_around_image>",))

FAMILIES: dict[str, Callable[[Any, Path], VisionEncoder]] = {
    "qwen2_vl": partial(GridEncoder, default_scale=CLIP, pixels=_QWEN_PIXELS),
    "qwen2_5_vl": partial(GridEncoder, default_scale=CLIP, pixels=_QWEN_PIXELS),
    "qwen3_vl": partial(GridEncoder, default_scale=HALF, pixels=(65536, 16777216)),
    "llava": partial(TileEncoder, default_scale=CLIP, shape=_batch),
    "llava_onevision": partial(TileEncoder, default_scale=CLIP, shape=_tile_and_whole),
    "smolvlm": partial(TileEncoder, default_scale=HALF, shape=_batch_of_lists, around=_IDEFICS),
    "idefics3": partial(TileEncoder, default_scale=HALF, shape=_batch_of_lists, around=_IDEFICS),
    "internvl": partial(TileEncoder, default_scale=IMAGENET, shape=_batch, around=(("<img>",), ("</img>",))),
    "gemma3": partial(
        TileEncoder, default_scale=HALF, shape=_batch, around=_GEMMA, mark="<start_of_image>", mutual=True
    ),
}
"""By the config's model_type."""


def find_encoder(module: Any, folder: Path) -> VisionEncoder | None:
    """The vision encoder of a loaded model; None: it has none that is known."""
    family = FAMILIES.get(module.config.model_type)
    return None if family is None else family(module, folder)
