"""The type that a target is distilled in."""

from __future__ import annotations

import pytest
import torch

from edgespec.train import teacher
from edgespec.train.teacher import fast_bfloat16


@pytest.mark.parametrize(
    ("features", "bfloat16_s", "fast"),
    [
        ({"amx_tile", "avx512_bf16"}, 9.0, True),
        ({"avx512_bf16"}, 0.5, True),
        ({"avx512_bf16"}, 1.7, False),
        (set(), 0.5, False),
    ],
)
def test_a_processor_is_fast_in_bfloat16_with_amx_or_where_its_products_take_less_time(
    features: set[str], bfloat16_s: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "_cpu_has", features.__contains__)
    monkeypatch.setattr(teacher, "_product_s", {torch.bfloat16: bfloat16_s, torch.float32: 1.0}.get)
    fast_bfloat16.cache_clear()
    found = fast_bfloat16(torch.device("cpu"))
    fast_bfloat16.cache_clear()
    assert found == fast
    assert fast_bfloat16(torch.device("cuda"))


def test_products_are_timed_in_either_type() -> None:
    assert all(0 < teacher._product_s(dtype) < 10 for dtype in (torch.float32, torch.bfloat16))
