"""Which rows of a batch are pictures', and where all rows lie on the axes by which a model turns keys and queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.pictures import PictureSpan, rotary_positions
from edgespec.core.slots import Piece
from edgespec.model.target_engine import SessionRows


@dataclass(frozen=True)
class PictureRows:
    """rows int64 [P]: of the batch. features [P, D]: what they hold in place of their tokens' embeddings. deeper:
    [P, D] each, added to them behind the first layers."""

    rows: NDArray[np.int64]
    features: torch.Tensor
    deeper: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, batch: Sequence[SessionRows]) -> PictureRows | None:
        """None: no row is a picture's."""
        rows, taken, first = [], [], 0
        for one in batch:
            positions = one.piece.positions
            for picture in one.pictures:
                inside = np.flatnonzero(
                    (positions >= picture.span.first_row) & (positions < picture.span.end)
                )
                if len(inside):
                    rows.append(inside + first)
                    taken.append(
                        (picture.features, torch.from_numpy(positions[inside] - picture.span.first_row))
                    )
            first += len(one.piece)
        if not rows:
            return None
        depth = len(taken[0][0].deeper)
        return cls(
            np.concatenate(rows).astype(np.int64),
            torch.cat([features.rows[index] for features, index in taken]),
            tuple(
                torch.cat([features.deeper[layer][index] for features, index in taken])
                for layer in range(depth)
            ),
        )

    def within(self, first: int, last: int) -> PictureRows | None:
        """Those of the batch's rows [first, last), counted from `first`."""
        inside = (first <= self.rows) & (self.rows < last)
        if not inside.any():
            return None
        chosen = torch.from_numpy(inside)
        return PictureRows(
            self.rows[inside] - first, self.features[chosen], tuple(part[chosen] for part in self.deeper)
        )

    def put(self, embeddings: torch.Tensor) -> None:
        """Into the rows [R, D] that the first layer reads."""
        embeddings[torch.from_numpy(self.rows)] = self.features.to(embeddings)

    def add(self, layer: int, rows: torch.Tensor) -> None:
        """To the rows [R, D] behind `layer` layers, where there is something to add."""
        if 0 < layer <= len(self.deeper):
            rows[torch.from_numpy(self.rows)] += self.deeper[layer - 1].to(rows)

    def arguments(self, rows: int, device: torch.device) -> dict[str, Any]:
        """What a language model of `rows` rows takes to add them by itself."""
        if not self.deeper:
            return {}
        mask = torch.zeros(1, rows, dtype=torch.bool)
        mask[0, torch.from_numpy(self.rows)] = True
        return {"visual_pos_masks": mask.to(device), "deepstack_visual_embeds": list(self.deeper)}


def mutual_slots(batch: Sequence[SessionRows]) -> list[NDArray[np.bool_]]:
    """For each session bool [R, W]: the slots of the picture that a row belongs to, as far as it is computed. In some
    families a picture's rows see all of these, those behind them too."""
    return [_mutual(one.piece, [picture.span for picture in one.pictures]) for one in batch]


def _mutual(piece: Piece, spans: Sequence[PictureSpan]) -> NDArray[np.bool_]:
    mutual = np.zeros_like(piece.cached)
    for span in spans:
        rows = np.flatnonzero((piece.positions >= span.first_row) & (piece.positions < span.end))
        if len(rows):
            inside = (piece.slot_positions >= span.first_row) & (piece.slot_positions < span.end)
            mutual[rows] = piece.cached[rows] & inside
            mutual[np.ix_(rows, piece.slots[rows])] = True
    return mutual


def rotary_positions_of(batch: Sequence[SessionRows], cell: int) -> NDArray[np.int64]:
    """Rotary positions of all rows, int64 [R]; [3, R] where a row's differ. cell: see `rotary_positions`; 0: they are
    the positions in the text."""
    if not cell or not any(one.pictures for one in batch):
        return np.concatenate([one.piece.positions for one in batch], dtype=np.int64)
    axes = np.concatenate(
        [
            rotary_positions([picture.span for picture in one.pictures], one.piece.positions, cell)
            for one in batch
        ],
        axis=1,
    )
    return axes[0] if (axes == axes[0]).all() else axes
