"""Which variants of the kernels a model launches: those that are compiled when it is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgespec.kernels.variants import FLOAT8, VARIANTS, Variant, divided

ODD_BY = {
    "verify": "vocabulary",
    "tree_attention": "head_width",
    "rotary": "head_width",
    "residual": "width",
    "gated": "inner",
}
"""What must be a multiple of 16, else the variant for odd arguments is launched; by how a kernel's name begins."""

POOLED = ("tree_attention_parts", "rotary_write")
"""The kernels that read or write the pool."""


@dataclass(frozen=True)
class ModelSizes:
    """dtype: of the weights, as Triton names it. inner: width of the MLP. at_once: programs of its exits that run
    together. narrow: these read an int8 head. float8_pool: keys and values are 8-bit floats."""

    dtype: str
    vocabulary: int
    width: int
    head_width: int
    inner: int
    at_once: int
    narrow: bool
    float8_pool: bool


def variants_of(sizes: ModelSizes) -> list[Variant]:
    """What a model of these sizes launches. Of padded sizes the least that holds the model's; none where none does:
    such a model runs without that kernel."""
    tile, _ = divided(sizes.vocabulary, sizes.at_once)
    padded = {
        "tree_attention_parts": ("WIDTH", sizes.head_width),
        "tree_attention_join": ("WIDTH", sizes.head_width),
        "rotary_write": ("HALF", sizes.head_width // 2),
        "residual_norm": ("BLOCK", sizes.width),
    }

    def wanted(one: Variant) -> bool:
        types = re.findall(r"bf16|fp16", one.types) or re.findall(r"fp32", one.name)
        if types and sizes.dtype not in types:
            return False
        if one.kernel == "exit_head_parts":
            return one.constants["TILE"] == tile and ("*i8" in one.types) == sizes.narrow
        if one.kernel in POOLED and (FLOAT8 in one.types) != sizes.float8_pool:
            return False
        odd_by = next((size for name, size in ODD_BY.items() if one.kernel.startswith(name)), None)
        odd = odd_by is not None and getattr(sizes, odd_by) % 16 > 0
        return one.name.endswith("-odd") == odd and _least(one, *padded.get(one.kernel, ("", 0)))

    return [one for one in VARIANTS if wanted(one)]


def _least(one: Variant, constant: str, size: int) -> bool:
    """Whether no other variant of the kernel pads less, and this one holds the size."""
    all_padded = (
        {other.constants[constant] for other in VARIANTS if other.kernel == one.kernel} if constant else ()
    )
    return not constant or one.constants[constant] == min(
        (own for own in all_padded if own >= size), default=0
    )
