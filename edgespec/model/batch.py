"""The rows of many sessions as the inputs of one forward.

Projections and MLPs see all rows at once; attention sees for each row the slots of its own session. Where attention is
edgespec's own (attention.py), it is given each session's span; elsewhere the slots of all sessions are laid end to
end, and a mask keeps the sessions apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.model.attention import Layout, SessionLayout, SessionSpan
from edgespec.model.masks import Windows
from edgespec.model.picture_rows import PictureRows, mutual_slots, rotary_positions_of
from edgespec.model.target_engine import SessionRows
from edgespec.model.vision import VisionEncoder


@dataclass(frozen=True)
class FlatRows:
    """All sessions' rows end to end, int64: tokens, rotary positions ([3, R] where a row's differ), and the pool's
    slots [R] that their keys and values go to; decided [D]: which rows are decided, session by session; pictures: the
    rows that are pictures', None: there are none."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    slots: NDArray[np.int64]
    decided: NDArray[np.int64]
    pictures: PictureRows | None

    @classmethod
    def of(cls, batch: Sequence[SessionRows], rotary_cell: int = 0) -> FlatRows:
        """Takes the pages that rows write to. rotary_cell: of the model's vision encoder. Raises KvFull."""
        pieces = [rows.piece for rows in batch]
        starts = np.cumsum([0, *map(len, pieces)])[:-1]
        tokens = np.concatenate([piece.tokens for piece in pieces], dtype=np.int64)
        pictures = PictureRows.of(batch)
        if pictures is not None:
            tokens[pictures.rows] = 0  # some families' placeholder has no embedding
        return cls(
            tokens,
            rotary_positions_of(batch, rotary_cell),
            np.concatenate([one.cache.slots_to_write(one.piece) for one in batch]),
            np.concatenate(
                [one.decide + start for one, start in zip(batch, starts, strict=True)], dtype=np.int64
            ),
            pictures,
        )


@dataclass(frozen=True)
class ModuleInputs:
    """The inputs of one forward by transformers' modules: tokens int64 [1, R], rotary positions int64 [1, R] or, on
    three axes, [3, 1, R], slots int64 [R] that rows write to. seen: the pool's slots int64 [W] that attention is given;
    None: the whole pool. keep: the rows whose logits are computed, int64 [D]; 0: all of them. pictures: the rows that
    are pictures', None: there are none."""

    tokens: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    seen: torch.Tensor | None
    masks: torch.Tensor | dict[str, torch.Tensor]
    keep: torch.Tensor | int
    layout: Layout
    pictures: PictureRows | None = None


def module_inputs(
    batch: Sequence[SessionRows],
    windows: Windows,
    dtype: torch.dtype,
    device: torch.device,
    apart: bool,
    vision: VisionEncoder | None = None,
) -> ModuleInputs:
    """apart: attention is edgespec's own, which takes each session by itself. vision: the model's encoder. Raises
    KvFull."""

    def on_device(array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    rows = FlatRows.of(batch, 0 if vision is None else vision.rotary_cell)
    spans, first = [], 0
    for one in batch:
        width, last = one.piece.cached.shape[1], first + len(one.piece)
        seen = on_device(one.cache.pool_slots(np.arange(width)))
        spans.append(SessionSpan(first, last, width, one.cache.start, seen))
        first = last
    return ModuleInputs(
        tokens=on_device(rows.tokens)[None],
        positions=on_device(rows.positions)[..., None, :],
        slots=on_device(rows.slots),
        seen=None if apart else torch.cat([span.seen for span in spans]),
        masks=windows.masks(
            [one.piece for one in batch],
            dtype,
            device,
            apart,
            mutual_slots(batch)
            if rows.pictures is not None and vision is not None and vision.mutual
            else None,
        ),
        keep=on_device(rows.decided),
        layout=SessionLayout(spans),
        pictures=rows.pictures,
    )
