"""One JSON schema for every benchmark's results: what was measured, on what, with what; and where results lie.

A results file: {"format_version", "kind", "hardware", "versions", "notes", "cells": [...]}. Each cell names its setting
and holds its figures; what a cell holds is its benchmark's business. Files of another version are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgespec.cli.demo.report import hardware, versions
from edgespec.core.errors import EdgespecError
from edgespec.core.json_file import save_json

FORMAT_VERSION = 1
FOLDER = Path(__file__).parent.parent / "docs" / "results"


def results(kind: str, cells: list[dict[str, Any]], notes: str) -> dict[str, Any]:
    """A results object. notes: what of it was emulated or paced, in a sentence."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "hardware": hardware(),
        "versions": versions(),
        "notes": notes,
        "cells": cells,
    }


def save(content: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_json(content, file)


def load(file: Path, kind: str) -> dict[str, Any]:
    """A results file. Raises EdgespecError if it is none, or of another version or kind."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgespecError(f"{file} cannot be read as results ({error}): run the benchmark again.") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise EdgespecError(f"{file} is of another version of the results: run the benchmark again.")
    if content.get("kind") != kind:
        raise EdgespecError(f"{file} holds results of {content.get('kind')!r}, not of {kind!r}.")
    return content
