"""A picture on its way to a server: from an array, an image, bytes or a file to a file of the size that the target
takes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.core.errors import EdgespecError
from edgespec.core.picture_files import read_header
from edgespec.core.picture_section import SentPicture
from edgespec.core.pictures import PictureFormat, PictureSpan

READ_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""Of files that are decoded here, and sent as PNG or JPEG."""

READ_PIXELS = 50_000_000

JPEG_QUALITIES = (90, 75, 50)
"""Of a JPEG; a lower one where the file would be too large."""


@dataclass(frozen=True)
class Picture:
    """A picture in a prompt. source: uint8 array [H, W, 3] (red, green, blue) or [H, W] (grey), a PIL image, the bytes
    of a PNG or JPEG, or the path of such a file. lossless: send it as PNG; otherwise as JPEG, which is several times
    smaller."""

    source: Any
    lossless: bool = False


def is_picture(part: object) -> bool:
    """Whether a part of a prompt is a picture."""
    return isinstance(part, (Picture, np.ndarray, bytes, bytearray, Path)) or _is_image(part)


def fitted(picture: object, form: PictureFormat, first_row: int) -> SentPicture:
    """As the server takes it, at `first_row` of the text. picture: a `Picture` or its source. Raises EdgespecError."""
    chosen = picture if isinstance(picture, Picture) else Picture(picture)
    source = _content(chosen.source)
    file = bytes(source) if isinstance(source, (bytes, bytearray)) else b""
    kind, height, width = _as_it_is(file, form)
    if not kind:
        image = _image(file if file else source)
        height, width = form.size(image.height, image.width)
        if image.size != (width, height):
            image = image.resize((width, height), _pillow().Resampling.BICUBIC)
        kind, file = _saved(image, chosen.lossless, form.max_bytes)
    span = PictureSpan(first_row, form.rows_of(height, width), height, width, hashlib.sha256(file).digest())
    return SentPicture(span, kind, file)


def _as_it_is(file: bytes, form: PictureFormat) -> tuple[str, int, int]:
    """Format, height and width of a file that can be sent unchanged; nothing where it cannot."""
    try:
        header = read_header(file)
        form.rows_of(header.height, header.width)
    except EdgespecError:
        return "", 0, 0
    return header.format, header.height, header.width


def _content(source: Any) -> Any:
    """A path's bytes; else the source itself."""
    if not isinstance(source, (str, Path)):
        return source
    try:
        return Path(source).expanduser().read_bytes()
    except OSError as error:
        raise EdgespecError(
            f"the picture {source} cannot be read ({error.strerror}): give another file."
        ) from None


def _image(source: Any) -> Any:
    """A PIL image in red, green and blue, upright."""
    pillow = _pillow()
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)):
            raise EdgespecError(
                f"a picture's array must be uint8 [H, W, 3] or [H, W], not {source.dtype} {list(source.shape)}."
            )
        return pillow.fromarray(np.ascontiguousarray(source)).convert("RGB")
    if _is_image(source):
        return source.convert("RGB")
    if not isinstance(source, (bytes, bytearray)):
        raise EdgespecError(
            f"a picture must be an array, a PIL image, bytes or a path, not {type(source).__name__}."
        )
    from PIL import ImageOps

    try:
        with pillow.open(io.BytesIO(source), formats=READ_FORMATS) as image:
            if image.width * image.height > READ_PIXELS:
                raise EdgespecError(
                    f"a picture has {image.width}x{image.height} pixels, too many to read: scale it down."
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except EdgespecError:
        raise
    except Exception as error:  # Pillow raises many kinds for a file that is broken
        raise EdgespecError(
            f"a picture cannot be decoded ({type(error).__name__}): give a PNG, JPEG, WebP or BMP file."
        ) from None


def _saved(image: Any, lossless: bool, most: int) -> tuple[str, bytes]:
    """Format and bytes of at most `most`."""
    attempts: list[tuple[str, dict[str, Any]]] = (
        [("png", {})] if lossless else [("jpeg", {"quality": quality}) for quality in JPEG_QUALITIES]
    )
    for kind, options in attempts:
        file = io.BytesIO()
        image.save(file, kind.upper(), **options)
        if file.tell() <= most:
            return kind, file.getvalue()
    advice = "send it without lossless=True" if lossless else "send a smaller one"
    raise EdgespecError(f"a picture takes more than {most} bytes: {advice}.")


def _is_image(part: object) -> bool:
    """Whether it is one of Pillow's images, without importing Pillow."""
    return any(one.__module__ == "PIL.Image" and one.__name__ == "Image" for one in type(part).__mro__)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise EdgespecError("pictures need Pillow: pip install 'edgespec[vision]'.") from None
    return Image
