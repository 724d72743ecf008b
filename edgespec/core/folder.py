"""A folder that is written whole or not at all: under another name beside its place, and moved there at the end.

A build that fails or is interrupted leaves what was there before, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgespec.core.errors import EdgespecError


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
