"""The rows of many sessions as the inputs of one forward.

Projections and MLPs see all rows at once; attention sees for each row the slots of its own session. Over pages
(paged_attention.py) that is a plan; where attention is edgespec's SDPA (attention.py), it is given each session's span;
elsewhere the slots of all sessions are laid end to end, and a mask keeps the sessions apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.model.attention import Layout, SessionLayout, SessionSpan
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.paged_attention import PagedAttention, PagedLayout
from edgespec.model.picture_rows import PictureRows, mutual_slots, rotary_positions_of
from edgespec.model.target_engine import SessionRows


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
class AttentionInputs:
    """seen: the pool's slots int64 [W] that attention is given; None: the whole pool. masks: one, or one for each type
    of layer. layout: where the rows lie."""

    seen: torch.Tensor | None
    masks: torch.Tensor | dict[str, torch.Tensor]
    layout: Layout


@dataclass(frozen=True)
class ModuleInputs:
    """The inputs of one forward by transformers' modules: tokens int64 [1, R], rotary positions int64 [1, R] or, on
    three axes, [3, 1, R], slots int64 [R] that rows write to. keep: the rows whose logits are computed, int64 [D]; 0:
    all of them. pictures: the rows that are pictures', None: there are none."""

    tokens: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    keep: torch.Tensor | int
    attention: AttentionInputs
    pictures: PictureRows | None = None


def module_inputs(
    batch: Sequence[SessionRows], model: LoadedModel, paged: PagedAttention | None = None
) -> ModuleInputs:
    """paged: attention reads pages. Raises KvFull."""
    device = model.device
    rows = FlatRows.of(batch, model.rotary_cell)
    tokens, positions, slots, keep = (
        torch.from_numpy(array).to(device)
        for array in (rows.tokens[None], rows.positions[..., None, :], rows.slots, rows.decided)
    )
    mutual = None
    if rows.pictures is not None and model.vision is not None and model.vision.mutual:
        mutual = mutual_slots(batch)
    if paged is None:
        attention = masked(batch, model, device, model.reads_slots, mutual)
    else:
        plans = paged.plans(batch, model.windows, mutual)
        layout, masks = PagedLayout.of(
            {window: plan.on(device) for window, plan in plans.items()}, model.windows, paged
        )
        attention = AttentionInputs(None, masks, layout)
    return ModuleInputs(tokens, positions, slots, keep, attention, rows.pictures)


def masked(
    batch: Sequence[SessionRows],
    model: LoadedModel,
    device: torch.device,
    apart: bool,
    mutual: Sequence[NDArray[np.bool_]] | None = None,
) -> AttentionInputs:
    """Dense masks on `device` for a batch whose pages are taken. apart: attention takes each session by itself. mutual:
    as in Windows.masks."""
    spans, first = [], 0
    for one in batch:
        width, last = one.piece.cached.shape[1], first + len(one.piece)
        seen = torch.from_numpy(one.cache.pool_slots(np.arange(width))).to(device)
        spans.append(SessionSpan(first, last, width, one.cache.start, seen))
        first = last
    pieces = [one.piece for one in batch]
    return AttentionInputs(
        None if apart else torch.cat([span.seen for span in spans]),
        model.windows.masks(pieces, model.dtype, device, apart, mutual),
        SessionLayout(spans),
    )
