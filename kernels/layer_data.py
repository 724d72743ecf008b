"""The weights of norms, as a decoder layer's kernels take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Norm:
    """An RMS norm in float32 of rows [R, D]: weight [D]. unit: the weight is added to 1, and the result rounded once
    (Gemma); else the row is rounded before the weight and after it."""

    weight: Any
    epsilon: float
    unit: bool = False


@dataclass(frozen=True)
class HeadNorms:
    """The same for each head's queries and keys, with a weight [d] each."""

    query: Any
    key: Any
    unit: bool
    epsilon: float
