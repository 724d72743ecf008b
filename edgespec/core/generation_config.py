"""The sampling that a model's makers recommend: generation_config.json, as transformers reads it.

A server tells its devices in the WELCOME, and they sample so wherever their user asks for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams

FILE = "generation_config.json"
FILTERS = ("temperature", "top_k", "top_p", "min_p")


def sampling_defaults(folder: Path) -> dict[str, Any]:
    """Parameters of `SamplingParams` by name; only those that the file in `folder` sets. Raises EdgespecError."""
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        samples = config.get("do_sample") is True
    except (OSError, ValueError, AttributeError) as error:
        raise EdgespecError(
            f"{file} cannot be read ({error}): mend it, or pass --generation-config none."
        ) from None
    names = ("repetition_penalty", *FILTERS) if samples else ("repetition_penalty",)
    found = {name: config[name] for name in names if config.get(name) is not None}
    if samples:
        found.setdefault("temperature", 1.0)
    SamplingParams(**found)
    return found


def with_defaults(chosen: Mapping[str, Any], defaults: Mapping[str, Any]) -> SamplingParams:
    """`chosen`, and what a server's description says of the rest. Raises ParameterError."""
    known = {name: defaults[name] for name in ("repetition_penalty", *FILTERS) if name in defaults}
    return SamplingParams(**{**known, **chosen})
