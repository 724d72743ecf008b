"""The name under which a module's forward takes the keys and values: `cache`, or `past_key_values` before
transformers 5.24."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

NAMES = ("cache", "past_key_values")


def cache_argument(module: Any) -> str:
    return _of(type(module).forward)


@lru_cache
def _of(forward: Callable[..., Any]) -> str:
    return NAMES[0] if NAMES[0] in inspect.signature(forward).parameters else NAMES[1]
