"""Where edgespec keeps what it can make or fetch again: in the user's cache (XDG_CACHE_HOME, or ~/.cache)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(what: str) -> Path:
    """The folder of one kind of things, such as engines. It may not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).absolute() / "edgespec" / what
