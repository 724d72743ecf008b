"""How positions turn queries and keys: cosines and sines by the decoder's own rotary module.

They are read from tables that are made at load: one operator each, where the module takes nine a forward. Frequencies
that change with the length of the text have no table, and a table of a very long context would take too much memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

CHANGING = {"dynamic", "longrope"}
"""Types of rotary positions whose frequencies depend on how long the text is."""

MOST_POSITIONS = 1 << 17
"""Of a table: with heads of 128 in 16 bits it takes 64 MiB."""

Turn = tuple[Tensor, Tensor]
"""Cosines and sines [R, d]."""


class Turns:
    """Of one decoder. kinds: its types of layers. by_kind: they turn differently. like: of the rows' type and device.
    positions: rows have less."""

    def __init__(
        self, rotary: Any, kinds: Sequence[str], by_kind: bool, like: Tensor, positions: int
    ) -> None:
        self._rotary, self._kinds, self._like = rotary, kinds, like
        self._named: list[list[str]] = [[kind] for kind in kinds] if by_kind else [[]]
        self._tables: list[Turn] | None = None
        kept = set(rotary.rope_type.values() if isinstance(rotary.rope_type, dict) else [rotary.rope_type])
        if positions <= MOST_POSITIONS and not kept & CHANGING:
            with torch.no_grad():
                self._tables = list(self._computed(torch.arange(positions, device=like.device)[None]))

    def __call__(self, positions: Tensor) -> dict[str, Turn]:
        """By the type of layer. positions: int64 [1, R]."""
        if self._tables is None:
            found = list(self._computed(positions))
        else:
            found = [
                (cosines.index_select(0, positions[0]), sines.index_select(0, positions[0]))
                for cosines, sines in self._tables
            ]
        return {kind: found[place % len(found)] for place, kind in enumerate(self._kinds)}

    def _computed(self, positions: Tensor) -> Iterator[Turn]:
        for named in self._named:
            cosines, sines = self._rotary(self._like[None, None], positions, *named)
            yield cosines[0].contiguous(), sines[0].contiguous()
