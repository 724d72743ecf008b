"""A model's files of weights: those that transformers loads from a folder, which may hold other copies beside them."""

from __future__ import annotations

import json
from pathlib import Path

from edgespec.core.errors import EdgespecError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; an index beside them names shards."""


GGUF_WEIGHTS = "model.gguf"
"""A link to them, in a folder that was made of a GGUF file."""


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that transformers loads from `folder`; other copies of the weights do not count. Raises
    EdgespecError where there are none, or shards are missing."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    if (folder / GGUF_WEIGHTS).is_file():
        return [folder / GGUF_WEIGHTS]
    raise EdgespecError(
        f"{folder} holds no weights ({' or '.join(WEIGHTS)}, whole or in shards): copy or download the model again."
    )


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in weight_files(folder))


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / name for name in names]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise EdgespecError(f"{index} is no index of weights: copy or download the model again.") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise EdgespecError(
            f"{index.parent} lacks {len(missing)} of {len(files)} shards of its weights, such as "
            f"{', '.join(missing[:1])}: copy or download the model again."
        )
    return files
