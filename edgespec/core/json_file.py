"""A JSON file that is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save_json(content: Mapping[str, Any], file: Path) -> None:
    """Write it whole or not at all."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as out:
            json.dump(content, out, indent=2)
            out.write("\n")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
