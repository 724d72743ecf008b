"""A JSON file that is written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save_json(content: Mapping[str, Any], file: Path) -> None:
    """Write it whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".unfinished", delete=False, encoding="utf-8") as out:
        json.dump(content, out, indent=2)
        out.write("\n")
    os.replace(out.name, file)
