"""What the exits of a running forward need: which sessions listen, which rows they decide, after which layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.model.hints import ListenedRows
from edgespec.model.target_engine import ForwardRequest


class Exits(Protocol):
    """Exit heads, as `edgespec.model.exits.ExitHeads` has them."""

    @property
    def layers(self) -> tuple[int, ...]: ...

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor: ...

    def calibration(self, layer: int) -> Calibration: ...


@dataclass(frozen=True)
class Tap:
    """parts: those that listen, each with its decided rows in the batch, int64 [D]. layers: of the exits that are
    read."""

    parts: Sequence[tuple[ForwardRequest, NDArray[np.int64]]]
    layers: frozenset[int]

    @classmethod
    def of(cls, parts: Sequence[ForwardRequest], layers: frozenset[int]) -> Tap | None:
        """The tap of those parts that listen; None where none does."""
        starts = np.cumsum([0, *(len(part.piece) for part in parts)])
        listening = [
            (part, part.decide.astype(np.int64) + start)
            for part, start in zip(parts, starts, strict=False)
            if part.on_exit is not None and len(part.decide)
        ]
        return cls(listening, layers) if listening and layers else None

    def within(self, first: int, last: int) -> Tap | None:
        """The tap of those parts whose rows all lie in [first, last) of the batch, as rows of that stretch."""
        own = [(part, rows - first) for part, rows in self.parts if first <= rows.min() and rows.max() < last]
        return Tap(own, self.layers) if own else None

    @cached_property
    def selected(self) -> torch.Tensor:
        """The rows of all parts, int64 [D]."""
        return torch.from_numpy(np.concatenate([rows for _, rows in self.parts]))

    @cached_property
    def rows(self) -> ListenedRows:
        """Raises EdgespecError where a part's first decided row is not an ancestor of its others."""
        return ListenedRows.of([part for part, _ in self.parts])
