"""Attention masks over slots: a row sees its ancestors in the draft tree and, in a sliding window, the nearest of
them.

transformers takes a 4-D additive mask as it is; a model whose layers differ takes one for each layer type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.slots import Piece


@dataclass(frozen=True)
class Windows:
    """How far back each type of layer sees, in tokens, itself included; None: all. One type: one mask for all."""

    by_layer_type: Mapping[str, int | None]

    @classmethod
    def of(cls, config: Any) -> Windows:
        """As transformers reads the (text) config: by `layer_types`, else one `sliding_window` for all layers."""
        window = getattr(config, "sliding_window", None)
        layer_types = getattr(config, "layer_types", None) or [
            "full_attention" if window is None else "sliding_attention"
        ]
        return cls({kind: window if kind == "sliding_attention" else None for kind in layer_types})

    def masks(
        self,
        pieces: Sequence[Piece],
        dtype: torch.dtype,
        device: torch.device,
        apart: bool,
        mutual: Sequence[NDArray[np.bool_]] | None = None,
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive masks [1, 1, R, W] for the rows of all pieces: 0 where a row sees a slot, the dtype's minimum where
        not.

        apart: W is the widest piece's, and each row's columns are the slots of its own session; else the columns are
        the slots of all pieces, end to end. mutual: of each piece, the slots [R, W] that a row sees beside its
        ancestors."""
        masks: dict[int | None, torch.Tensor] = {}
        for window in self.by_layer_type.values():
            if window not in masks:
                masks[window] = _additive(_seen(pieces, window, apart, mutual), dtype).to(device)
        if len(self.by_layer_type) == 1:
            return next(iter(masks.values()))
        return {kind: masks[window] for kind, window in self.by_layer_type.items()}


def visible(piece: Piece) -> NDArray[np.bool_]:
    """Which slots hold ancestors of each row, itself included: bool [R, W]."""
    seen: NDArray[np.bool_] = piece.cached.copy()
    seen[:, piece.slots] = piece.among
    return seen


def seen_slots(piece: Piece, window: int | None, mutual: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which slots of its session each row of a piece sees: bool [R, W]. mutual: those beside its ancestors."""
    seen = visible(piece)
    if mutual is not None:
        seen |= mutual
    if window is not None:
        seen &= _within(piece, window)
    return seen


def _seen(
    pieces: Sequence[Piece],
    window: int | None,
    apart: bool,
    mutual: Sequence[NDArray[np.bool_]] | None,
) -> NDArray[np.bool_]:
    """Which slots each row sees: bool [R, W]."""
    widths = [piece.cached.shape[1] for piece in pieces]
    seen = np.zeros((sum(map(len, pieces)), max(widths) if apart else sum(widths)), dtype=np.bool_)
    row = column = 0
    for number, (piece, width) in enumerate(zip(pieces, widths, strict=True)):
        own = seen_slots(piece, window, None if mutual is None else mutual[number])
        seen[row : row + len(piece), column : column + width] = own
        row += len(piece)
        column += 0 if apart else width
    return seen


def _within(piece: Piece, window: int) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = piece.slot_positions[None, :] > piece.positions[:, None] - window
    return near


def _additive(seen: NDArray[np.bool_], dtype: torch.dtype) -> torch.Tensor:
    mask = torch.zeros(1, 1, *seen.shape, dtype=dtype)
    return mask.masked_fill_(torch.from_numpy(~seen), torch.finfo(dtype).min)
