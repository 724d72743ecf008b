"""Which drafts see, and at which size: a draft's vision encoder is compiled for pictures of one size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.core.families import VISION_TARGETS
from edgespec.core.json_files import read_object
from edgespec.core.pictures import MAX_PIXELS
from edgespec.tensorrt_engines.draft_shape import EyesShape

FAMILY = "qwen2_vl"
"""The model_type of drafts that see."""

USUAL_SIDE = 224
"""Pixels of a picture's side, unless another size is asked for: a draft sees coarsely."""

Size = tuple[int, int]
"""Height and width, in pixels."""


def picture_size(folder: Path, wanted: str | None) -> Size | None:
    """The size at which the draft in `folder` sees; None: it reads text only. wanted: such as "224x112", width first.

    Raises EdgespecError for a family whose pictures no draft reads, and for a size that the draft cannot take.
    """
    config = read_object(folder / "config.json", "copy or download the model again")
    kind, vision = config.get("model_type"), config.get("vision_config")
    if kind != FAMILY and vision is not None:
        name = VISION_TARGETS.get(str(kind), kind)
        raise EdgespecError(
            f"the draft in {folder} is of the family {name}, whose pictures no draft reads yet: take a draft of "
            "Qwen2-VL's family, or one of text alone, which leaves pictures out."
        )
    if kind != FAMILY:
        if wanted is not None:
            raise EdgespecError(f"the draft in {folder} reads text only: leave picture_size out.")
        return None
    vision = vision if isinstance(vision, dict) else {}
    sides = vision.get("patch_size", 14), vision.get("spatial_merge_size", 2)
    if not all(type(one) is int and 1 <= one <= USUAL_SIDE for one in sides):
        raise EdgespecError(
            f"{folder}/config.json is damaged (vision_config): copy or download the model again."
        )
    cell = sides[0] * sides[1]
    return _size(wanted, cell) if wanted is not None else (max(1, round(USUAL_SIDE / cell)) * cell,) * 2


def eyes_shape(config: Any, size: Size) -> EyesShape:
    """config: the model's."""
    vision = config.vision_config
    return EyesShape(
        *size, vision.patch_size * vision.spatial_merge_size, config.get_text_config().hidden_size
    )


def _size(wanted: str, cell: int) -> Size:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", wanted)
    width, height = (int(side) for side in found.groups()) if found else (0, 0)
    if not height or not width or height % cell or width % cell or height * width > MAX_PIXELS:
        raise EdgespecError(
            f"picture_size {wanted!r} is none that this draft can take: give WIDTHxHEIGHT in multiples of {cell} "
            f"pixels, {MAX_PIXELS} in all at most."
        )
    return height, width
