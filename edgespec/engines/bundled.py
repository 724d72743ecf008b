"""The engine folder of the bundled draft: shipped, or compiled again when that draft was trained again."""

from __future__ import annotations

from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.engines.compiling import compile
from edgespec.engines.draft_engine import PAIR_DRAFT, PAIR_ENGINE, PAIR_FOLDER
from edgespec.engines.manifest import MANIFEST_FILE, BuildSettings, EngineManifest, hash_inputs


def bundled_engine() -> Path:
    """The engine folder of the bundled draft: the one that came with edgespec, or one in the cache.

    The latter where the one that came was not made of the draft beside it (it was trained again); it needs
    torch.
    """
    shipped = (PAIR_ENGINE / MANIFEST_FILE).is_file()
    if not (PAIR_DRAFT / "config.json").is_file():
        if shipped:
            return PAIR_ENGINE
        raise EdgespecError(
            f"there is no bundled draft in {PAIR_FOLDER}: install edgespec again, or pass a draft."
        )
    if shipped and EngineManifest.read(PAIR_ENGINE).input_hash == hash_inputs(PAIR_DRAFT, BuildSettings()):
        return PAIR_ENGINE
    return compile(PAIR_DRAFT, runtime="onnxruntime")
