"""Where an engine folder comes to be: beside its place under another name, and moved there when it is whole.

A build that fails or is interrupted leaves what was there before, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.engines.manifest import MANIFEST_FILE, EngineManifest


def cache_folder() -> Path:
    """Where engines go that were given no place."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).absolute() / "edgespec" / "engines"


def holds(folder: Path, input_hash: str) -> bool:
    """Whether `folder` is a whole engine made of these inputs."""
    try:
        return EngineManifest.load(folder).input_hash == input_hash
    except EdgespecError:
        return False


def check_place(folder: Path, input_hash: str, replaceable: bool) -> None:
    """Raises EdgespecError where a build into `folder` would destroy something that is not this engine."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST_FILE).is_file():
        raise EdgespecError(f"{folder} exists and is no engine: give another place, or remove it first.")
    with suppress(EdgespecError):
        replaceable = replaceable or EngineManifest.read(folder).input_hash == input_hash
    if not replaceable:
        raise EdgespecError(
            f"{folder} holds another engine: give another place, or force the build to replace it."
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place if the block ends well and vanishes if not."""
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
        yield unfinished
        unfinished.chmod(0o755)
        if folder.exists():
            replaced = Path(
                tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".replaced", dir=folder.parent)
            )
            os.rename(folder, replaced)
            try:
                os.rename(unfinished, folder)
            except BaseException:
                os.rename(replaced, folder)
                raise
            shutil.rmtree(replaced)
        else:
            os.rename(unfinished, folder)
    except OSError as error:
        raise EdgespecError(
            f"the engine cannot be written to {folder} ({error}): give another place."
        ) from None
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
