"""The bundled pair's folders, and the engine of its draft. `python -m edgespec.engines.bundled` builds it again."""

from __future__ import annotations

from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.engines.compiling import compile
from edgespec.engines.manifest import MANIFEST_FILE, BuildSettings, EngineManifest, hash_inputs
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.engines.seeing import picture_size

PAIR_DRAFT, PAIR_ENGINE = PAIR_FOLDER / "draft", PAIR_FOLDER / "engine"


def bundled_engine() -> Path:
    """The engine folder of the bundled draft: the shipped one, or one in the cache.

    Where the shipped one was not made of the draft beside it (the draft was trained again), compiles it; needs torch.
    """
    if not (PAIR_DRAFT / "config.json").is_file() and not (PAIR_ENGINE / MANIFEST_FILE).is_file():
        raise EdgespecError(
            f"there is no bundled draft in {PAIR_FOLDER}: install edgespec again, or pass a draft."
        )
    return engine_beside(PAIR_DRAFT, PAIR_ENGINE)


def engine_beside(draft: Path, engine: Path, size: str | None = None) -> Path:
    """`engine` where it was made of `draft`, or there is no `draft`; else one in the cache, compiled if need be. size:
    at which it sees, as `compile` takes it."""
    if (engine / MANIFEST_FILE).is_file() and (
        not (draft / "config.json").is_file()
        or EngineManifest.read(engine).input_hash
        == hash_inputs(draft, BuildSettings(picture_size=picture_size(draft, size)))
    ):
        return engine
    return compile(draft, runtime="onnxruntime", picture_size=size)


if __name__ == "__main__":
    print(compile(PAIR_DRAFT, PAIR_ENGINE, runtime="onnxruntime", force=True))
