"""Launches exit_head on CUDA, alone or with the hints of draft trees; its checks have passed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from edgespec.kernels import arguments
from edgespec.kernels.data import Cells, Curves, ExitScores, HeadSettings, Trees
from edgespec.kernels.launching import launch, power_of_2
from edgespec.kernels.side_stream import SideStream
from edgespec.kernels.variants import PROGRAMS_A_PROCESSOR, divided, head_depth

TYPES = (torch.float32, torch.int64, torch.int32)

PARTS = 4
"""Numbers that a program keeps of each row."""


@dataclass(frozen=True)
class HintRequest:
    """Whose hints are written where, and on which stream, as exit_hint takes it; all but the cells' words on the rows'
    device."""

    trees: Trees
    curves: Curves
    curve_of: torch.Tensor
    cells: Cells
    beside: SideStream | None = None

    @classmethod
    def none(cls, rows: int, device: torch.device) -> HintRequest:
        """Sessions of one row each, whose hints are not written."""
        own, nothing = _own_rows(rows, device), torch.empty(1, 1, device=device)
        cells = Cells(own[None, None, None], own, 0)
        return cls(Trees(own, own, own, 1), Curves(nothing, nothing, ()), own, cells)


def exit_head(
    hidden: torch.Tensor,
    norm: torch.Tensor,
    head: torch.Tensor,
    scales: torch.Tensor | None,
    columns: Sequence[Any],
    settings: HeadSettings,
    hints: HintRequest | None = None,
) -> ExitScores:
    """As edgespec.kernels.exit_head. columns: temperatures, seeds, positions. hints: as exit_hint."""
    device = hidden.device
    rows, dim = hidden.shape

    columns = [arguments.on_device(one, device, dtype) for one, dtype in zip(columns, TYPES, strict=True)]
    normed = torch.empty_like(hidden)
    epsilon = float(settings.epsilon)
    launch("exit_head_rows", rows, [hidden, norm, normed, dim, epsilon], {}, device)
    tile, programs = division_of(head.shape[0], device)
    parts = torch.empty(programs, PARTS, rows, dtype=torch.float32, device=device)
    padded = max(16, power_of_2(rows))
    factors = (float(settings.logit_scale), float(settings.softcap))
    launch(
        "exit_head_parts",
        programs,
        [
            normed,
            head,
            columns[0] if scales is None else scales,
            *columns,
            parts,
            rows,
            dim,
            head.shape[0],
            *factors,
        ],
        {"ROWS": padded, "TILE": tile, "DEPTH": head_depth(padded, head.element_size())},
        device,
    )
    return _finish(parts, hints or HintRequest.none(rows, device), hints is not None)


def _finish(parts: torch.Tensor, asked: HintRequest, hint: bool) -> ExitScores:
    """Join what the programs left; hint: and walk the sessions' trees, and write their cells."""
    programs, _, rows = parts.shape
    device = parts.device
    tokens = torch.empty(rows, dtype=torch.int32, device=device)
    margins = torch.empty(rows, device=device)
    trees, curves, cells = asked.trees, asked.curves, asked.cells
    largest, knots = trees.largest or rows, curves.margins.shape[1]
    columns = [
        arguments.on_device(one, device, torch.int32)
        for one in (trees.offsets, trees.parents, trees.tokens, asked.curve_of)
    ]
    with nullcontext() if asked.beside is None else asked.beside.behind_this_one(parts, tokens, margins):
        launch(
            "exit_head_finish",
            trees.sessions,
            [parts, tokens, margins, *columns[:3], curves.margins, curves.probabilities, columns[3], cells.words,
             cells.sequence, rows, programs, knots, cells.exit, *cells.words.shape[1:3]],
            {"ROWS": power_of_2(largest), "KNOTS": power_of_2(knots), "HINT": hint},
            device,
        )  # fmt: skip
    return ExitScores(tokens, margins)


def division_of(vocabulary: int, device: torch.device) -> tuple[int, int]:
    """Tokens of a tile, and programs that share the tiles: as many as run at once, or one a tile if that is fewer."""
    return divided(
        vocabulary, PROGRAMS_A_PROCESSOR * _processors(device.index) if device.type == "cuda" else 3
    )


@lru_cache
def _processors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index or 0).multi_processor_count)


@lru_cache
def _own_rows(rows: int, device: torch.device) -> torch.Tensor:
    """Offsets of sessions of one row each."""
    return torch.arange(rows + 1, dtype=torch.int32, device=device)
