"""Launches exit_head on CUDA, alone or with the hints of draft trees; their checks have passed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from edgespec.kernels import arguments
from edgespec.kernels.data import Cells, Curves, ExitScores, HeadSettings, Trees
from edgespec.kernels.launching import launch, power_of_2
from edgespec.kernels.variants import HEAD_TILE

PARTS = 7
"""Numbers that a program keeps of each row."""


def exit_head(
    hidden: torch.Tensor,
    norm: torch.Tensor,
    head: torch.Tensor,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    draft_tokens: Any,
    settings: HeadSettings,
) -> ExitScores:
    """As edgespec.kernels.exit_head."""
    columns = _columns(hidden.device, temperatures, seeds, positions, draft_tokens)
    rows, device = len(hidden), hidden.device
    own = _own_rows(rows, device)
    nothing = torch.empty(1, device=device)
    curves = Curves(nothing[None], nothing[None], ())
    cells = Cells(own[None, None, None], own, 0)
    return _launch(hidden, norm, head, columns, settings, Trees(own, own, own, 1), curves, own, cells, False)


def exit_hint(
    hidden: torch.Tensor,
    norm: torch.Tensor,
    head: torch.Tensor,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    draft_tokens: Any,
    settings: HeadSettings,
    trees: Trees,
    curves: Curves,
    curve_of: Any,
    cells: Cells,
) -> None:
    """As edgespec.kernels.exit_hint."""
    columns = _columns(hidden.device, temperatures, seeds, positions, draft_tokens)
    _launch(hidden, norm, head, columns, settings, trees, curves, curve_of, cells, True)


def _columns(device: torch.device, *columns: Any) -> list[torch.Tensor]:
    types = (torch.float32, torch.int64, torch.int32, torch.int32)
    return [arguments.on_device(one, device, dtype) for one, dtype in zip(columns, types, strict=True)]


def _launch(
    hidden: torch.Tensor,
    norm: torch.Tensor,
    head: torch.Tensor,
    columns: list[torch.Tensor],
    settings: HeadSettings,
    trees: Trees,
    curves: Curves,
    curve_of: torch.Tensor,
    cells: Cells,
    hint: bool,
) -> ExitScores:
    device = hidden.device
    rows, dim = hidden.shape
    programs = program_count(head.shape[0], device)
    parts = torch.empty(programs, PARTS, rows, dtype=torch.float32, device=device)
    factors = (float(settings.epsilon), float(settings.logit_scale), float(settings.softcap))
    launch(
        "exit_head_parts",
        programs,
        [hidden, norm, head, *columns, parts, rows, dim, head.shape[0], *factors],
        {"ROWS": max(16, power_of_2(rows))},
        device,
    )
    tokens = torch.empty(rows, dtype=torch.int32, device=device)
    margins, probabilities, logsumexps, draft_scores = torch.empty(4, rows, device=device)
    agrees, sound = torch.empty(2, rows, dtype=torch.int8, device=device)
    sessions, largest, knots = len(trees.offsets) - 1, trees.largest or rows, curves.margins.shape[1]
    launch(
        "exit_head_finish",
        sessions,
        [parts, columns[3], tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound,
         trees.offsets, trees.parents, trees.tokens, curves.margins, curves.probabilities, curve_of,
         cells.words, cells.sequence, rows, programs, knots, cells.exit, *cells.words.shape[1:3]],
        {"ROWS": power_of_2(largest), "KNOTS": power_of_2(knots), "HINT": hint},
        device,
    )  # fmt: skip
    return ExitScores(
        tokens,
        margins,
        probabilities,
        logsumexps,
        draft_scores,
        agrees.view(torch.bool),
        sound.view(torch.bool),
    )


def program_count(vocabulary: int, device: torch.device) -> int:
    """Programs that share the vocabulary: as many as run at once, or one a tile."""
    tiles = -(-vocabulary // HEAD_TILE)
    return min(tiles, 2 * _processors(device.index) if device.type == "cuda" else 3)


@lru_cache
def _processors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index or 0).multi_processor_count)


@lru_cache
def _own_rows(rows: int, device: torch.device) -> torch.Tensor:
    """Offsets of sessions of one row each."""
    return torch.arange(rows + 1, dtype=torch.int32, device=device)
