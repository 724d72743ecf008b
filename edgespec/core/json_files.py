"""JSON files of other people: their object, or one sentence that says what is wrong with the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError


def read_object(file: Path, remedy: str) -> dict[str, Any]:
    """The object in `file`; empty where there is no such file. remedy: what to do where it cannot be read. Raises
    EdgespecError."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EdgespecError(f"{file} is not JSON ({error or type(error).__name__}): {remedy}.") from None
    if not isinstance(value, dict):
        raise EdgespecError(f"{file} does not hold a JSON object: {remedy}.")
    return value
