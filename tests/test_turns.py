"""Cosines and sines of positions: tables hold what the decoder's own module computes, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, tiny

from edgespec.model import turns
from edgespec.model.turns import Turns

POSITIONS = torch.tensor([[0, 3, 17, 511, 3]])


def made(family: str, positions: int = 512, **changed: Any) -> tuple[Any, Turns]:
    model: Any = tiny(family, torch.bfloat16)
    decoder = model.get_decoder()
    for name, value in changed.items():
        setattr(decoder.rotary_emb, name, value)
    kinds = sorted(set(model.config.layer_types)) if family != "llama" else ["full_attention"]
    return decoder, Turns(decoder.rotary_emb, kinds, family == "gemma3", decoder.norm.weight.data, positions)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3"])
def test_a_table_holds_what_the_module_computes(family: str) -> None:
    assert family in FAMILIES
    decoder, own = made(family)
    found = own(POSITIONS)
    for kind, (cosines, sines) in found.items():
        given = [kind] if family == "gemma3" else []
        want = decoder.rotary_emb(torch.zeros(1, 5, 4, dtype=torch.bfloat16), POSITIONS, *given)
        for got, wanted in zip((cosines, sines), want, strict=True):
            assert got.is_contiguous() and torch.equal(got, wanted[0])
    assert family != "gemma3" or not torch.equal(*(one[0] for one in found.values()))


def test_frequencies_that_change_with_the_text_are_computed_each_time() -> None:
    decoder, own = made("llama", rope_type="dynamic")
    before = own(POSITIONS)
    decoder.rotary_emb.attention_scaling = 2.0  # as a longer text would
    assert all(
        torch.equal(new[0], 2 * old[0])
        for old, new in zip(before.values(), own(POSITIONS).values(), strict=True)
    )


def test_a_very_long_context_has_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_POSITIONS", 511)
    decoder, own = made("llama")
    decoder.rotary_emb.attention_scaling = 2.0
    assert float(next(iter(own(POSITIONS).values()))[0].max()) == 2.0
