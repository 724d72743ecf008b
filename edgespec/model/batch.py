"""A ragged batch: pieces of many sessions' texts and trees as the rows of one forward.

Projections and MLPs see all rows at once; attention sees for each row the slots of its own session. Models
whose attention edgespec runs itself (`target_attention`) are given each part's place in the pool; for the
others the slots of all parts are laid end to end, and a mask keeps the parts apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.slots import Piece
from edgespec.model.kv_cache import TargetCache
from edgespec.model.masks import Windows
from edgespec.model.ordered import Group


@dataclass(frozen=True)
class Place:
    """Where a part is: its rows [first, last) of the batch, and the pool's slots that it sees, int64 [W];
    `start` is the first of them where they lie side by side."""

    first: int
    last: int
    width: int
    start: int | None
    seen: torch.Tensor


@dataclass
class Layout:
    """What attention must know of the running forward, and what it works out once for all layers."""

    places: Sequence[Place] = ()
    groups: Sequence[Group] = ()
    """Where the forward is deterministic: how each row's ancestors are gathered."""
    ready: dict[int, Any] = field(default_factory=dict)
    """Masks as attention wants them, by the identity of the mask that the model hands on."""


Pieces = Sequence[tuple[TargetCache, Piece, NDArray[np.integer[Any]]]]
"""Of each part: its cache, its rows, and which of them are decided."""


@dataclass(frozen=True)
class Rows:
    """The rows of one forward, on the CPU: their tokens and positions, and the pool's slots that they are written to,
    int64 [R]; decided: which of them are decided, int64 [D], part by part."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    slots: NDArray[np.int64]
    decided: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Pieces) -> Rows:
        """Lay pieces end to end. Raises KvFull."""
        starts = np.cumsum([0, *(len(piece) for _, piece, _ in pieces)]).tolist()
        slots = [
            cache.place(piece.slots.astype(np.int64), piece.cached.shape[1]) for cache, piece, _ in pieces
        ]
        decided = [
            np.asarray(decide, dtype=np.int64) + start
            for (_, _, decide), start in zip(pieces, starts, strict=False)
        ]
        return cls(
            np.concatenate([piece.tokens for _, piece, _ in pieces], dtype=np.int64),
            np.concatenate([piece.positions for _, piece, _ in pieces], dtype=np.int64),
            np.concatenate(slots),
            np.concatenate(decided, dtype=np.int64),
        )


@dataclass(frozen=True)
class Batch:
    """The inputs of one forward by transformers' modules: `Rows`, tokens and positions as [1, R]; `seen`: the slots
    that attention is given, where it is not edgespec's own."""

    tokens: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    seen: torch.Tensor | None
    masks: torch.Tensor | dict[str, torch.Tensor]
    decided: torch.Tensor
    layout: Layout


def batch_of(
    pieces: Pieces,
    windows: Windows,
    dtype: torch.dtype,
    device: torch.device,
    apart: bool,
) -> Batch:
    """What modules need beside the rows. apart: attention is edgespec's own, which takes each part by itself. Raises
    KvFull."""

    def index(array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    rows = Rows.of(pieces)
    places = []
    first = 0
    for cache, piece, _ in pieces:
        width = piece.cached.shape[1]
        seen = cache.located(torch.arange(width, device=device))
        places.append(Place(first, first + len(piece), width, cache.start, seen))
        first += len(piece)
    return Batch(
        tokens=index(rows.tokens)[None],
        positions=index(rows.positions)[None],
        slots=index(rows.slots),
        seen=None if apart else torch.cat([place.seen for place in places]),
        masks=windows.masks([piece for _, piece, _ in pieces], dtype, device, apart),
        decided=index(rows.decided),
        layout=Layout(places),
    )
