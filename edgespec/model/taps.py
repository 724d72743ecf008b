"""What the exits of a running forward need: which sessions listen, which rows they decide, after which layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from edgespec.core.calibration import Calibration
from edgespec.core.noise import NoiseRows
from edgespec.model.hints import HintTrees
from edgespec.model.sampling import Rows, coupled_noise
from edgespec.model.target_engine import ForwardRequest


class Exits(Protocol):
    """Exit heads, as `edgespec.model.exits.ExitHeads` has them."""

    @property
    def layers(self) -> tuple[int, ...]: ...

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor: ...

    def calibration(self, layer: int) -> Calibration: ...


@dataclass(frozen=True)
class Tap:
    """parts: those that listen, each with its rows among the selected. selected: rows of the batch, int64 [D].
    temperatures: float32 [D, 1], 1 in greedy rows. noise: float32 [D, V], None where the kernel draws it. layers: of
    the exits that are read. trees: the listening parts' draft trees."""

    parts: Sequence[tuple[ForwardRequest, slice]]
    selected: torch.Tensor
    temperatures: torch.Tensor
    noise: torch.Tensor | None
    layers: frozenset[int]
    trees: HintTrees

    @classmethod
    def of(
        cls,
        parts: Sequence[ForwardRequest],
        layers: frozenset[int],
        device: torch.device,
        noise: Callable[[Sequence[ForwardRequest]], torch.Tensor | None],
    ) -> Tap | None:
        """The tap of those parts that listen; None where none does. noise: of such parts' decided rows."""
        row = selected = 0
        listening, rows, temperatures = [], [], []
        for part in parts:
            count = len(part.decide)
            if part.on_exit is not None and count:
                listening.append((part, slice(selected, selected + count)))
                rows.append(part.decide + row)
                temperatures += [part.sampling.temperature or 1.0] * count
                selected += count
            row += len(part.piece)
        if not listening or not layers:
            return None
        own = [part for part, _ in listening]
        return cls(
            listening,
            torch.from_numpy(np.concatenate(rows).astype(np.int64)).to(device),
            torch.tensor(temperatures, device=device)[:, None],
            noise(own),
            layers,
            HintTrees(own),
        )

    def within(self, first: int, last: int) -> Tap | None:
        """The tap of those parts whose rows all lie in [first, last) of the batch, as rows of that
        stretch."""
        inside = (first <= self.selected) & (self.selected < last)
        own = [(part, rows) for part, rows in self.parts if bool(inside[rows].all())]
        if not own:
            return None
        kept = torch.cat([torch.arange(rows.start, rows.stop) for _, rows in own]).to(self.selected.device)
        ends = np.cumsum([rows.stop - rows.start for _, rows in own]).tolist()
        moved = [(part, slice(e - (r.stop - r.start), e)) for (part, r), e in zip(own, ends, strict=True)]
        noise = None if self.noise is None else self.noise[kept]
        trees = HintTrees([part for part, _ in own])
        return Tap(moved, self.selected[kept] - first, self.temperatures[kept], noise, self.layers, trees)


def rows_of(part: ForwardRequest) -> Rows:
    """A part's decided rows, as sampling wants them."""
    positions = part.piece.positions[part.decide] + 1
    return Rows(part.sampling, part.seed, positions, part.seen)


def noise_of(parts: Sequence[ForwardRequest], kept: NoiseRows, device: torch.device) -> torch.Tensor | None:
    """Noise float32 [D, V] of the parts' decided rows, 0 in greedy parts' rows; None where no part needs any."""
    if all(part.sampling.greedy or not len(part.decide) for part in parts):
        return None
    shares = [
        torch.zeros(len(part.decide), kept.vocabulary_size, device=device)
        if part.sampling.greedy
        else coupled_noise(kept, part.piece.positions[part.decide] + 1, part.seed, device)
        for part in parts
    ]
    return shares[0] if len(shares) == 1 else torch.cat(shares)
