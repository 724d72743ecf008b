"""Where a device's memory lies, what its folder holds, and how it is emptied."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.edge.text_log import ForeignFile, count_texts

TEXTS, LINKS, SEALED_LINKS = "texts-*.log", "link-*.json", "link-*.sealed"
PATTERNS = (TEXTS, LINKS, SEALED_LINKS, "texts-*.lock", "texts-*.unfinished", "link-*.unfinished")
"""All that a memory writes into its folder."""


@dataclass(frozen=True)
class TargetTexts:
    """The file of one target's texts."""

    file: Path
    texts: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class FolderContents:
    """links: whose measurements are kept."""

    targets: list[TargetTexts]
    links: int


def default_folder() -> Path:
    """`edgespec/memory` in the user's folder for state (XDG_STATE_HOME, or ~/.local/state). Raises EdgespecError."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError:
        raise EdgespecError("this user has no home folder: give --memory DIR, or --no-memory.") from None
    return base / "edgespec" / "memory"


def folder_contents(folder: Path) -> FolderContents:
    """Files that are damaged or not ours count as none. Raises OSError."""
    targets = []
    for file in sorted(folder.glob(TEXTS)):
        try:
            texts, tokens = count_texts(file)
        except ForeignFile:
            continue
        targets.append(TargetTexts(file, texts, tokens, file.stat().st_size))
    return FolderContents(targets, len(links_in(folder)))


def links_in(folder: Path) -> list[Path]:
    """Files with what links were like, encrypted or not."""
    return [*folder.glob(LINKS), *folder.glob(SEALED_LINKS)]


def clear_folder(folder: Path) -> int:
    """Delete what a memory wrote, and nothing else; how many files that were. Raises OSError."""
    files = {file for pattern in PATTERNS for file in folder.glob(pattern)}
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)
