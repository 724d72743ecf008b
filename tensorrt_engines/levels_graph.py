"""Several levels of the draft tree in one run: the draft's graph, unrolled, with the choice of the next rows inside.

A level runs its rows, weighs each deciding row's choices by their calibrated probability, and keeps the B likeliest: they
are the next level's rows. One branch keeps the best token: a chain. Unrolled rather than a Loop, which TensorRT-RTX's
parser refused and ONNX Runtime ran slower than single levels (docs/engines.md).
The keys and values of all levels are carried along and returned; the runtime places them after the run.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from edgespec.tensorrt_engines.draft_graph import CHOICES, DraftGraph
from edgespec.tensorrt_engines.export import write_onnx

INPUTS = (
    *("tokens", "positions", "cached", "among", "decide"),
    *("noise", "inverse_temperature", "knots", "probabilities"),
)
OUTPUTS = ("best", "scores", "tokens_kept", "parents", "rows")


class LevelsGraph(nn.Module):
    """`levels` levels of `branches` rows each, behind one row of the first. branches: at most CHOICES."""

    def __init__(self, graph: DraftGraph, levels: int, branches: int = 1) -> None:
        super().__init__()
        if not 1 <= branches <= CHOICES:
            raise ValueError(f"{branches} branches of {CHOICES} choices")
        self.draft = graph
        self.levels = levels
        self.branches = branches

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        cached: Tensor,
        among: Tensor,
        decide: Tensor,
        noise: Tensor,
        inverse_temperature: Tensor,
        knots: Tensor,
        probabilities: Tensor,
        cache: list[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Best tokens, their scores, what was kept of them, behind which row each stands, and new rows of the cache.

        As DraftGraph.forward, but decide: int32 [1], the row from which the tree grows; noise: float32 [levels, V], one
        row a level, shared by its branches; knots, probabilities: float32 [CHOICES, J], the calibration's curves by rank.
        Returns, the first level's one row repeated: best int32 and scores float32 [levels, branches, CHOICES];
        tokens_kept int32 [levels, branches]; parents int32 [levels, branches], numbers of rows of the level above;
        rows `compute` [2 * layers, R + (levels - 1) * branches, kv_heads, head_dim].
        """
        reach: Tensor | None = None
        bias = torch.where(torch.cat([cached, among], dim=1), 0.0, -torch.inf)
        recent: list[Tensor] = []
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for level in range(self.levels):
            best, scores, rows = self.draft.level(
                tokens, positions, bias, decide, noise[level : level + 1], inverse_temperature, cache, recent
            )
            recent = [torch.cat(pair) for pair in zip(recent, rows, strict=True)] if recent else rows
            if self.branches == 1:
                tokens, parents = best[:, 0], torch.zeros_like(decide)
            else:
                tokens, parents, reach = self._keep(best, scores, reach, knots, probabilities)
            found.append((_repeated(best, self.branches), _repeated(scores, self.branches), tokens, parents))
            if self.branches == 1 and level:
                positions, bias = positions + 1, nn.functional.pad(bias, (0, 1))
                continue
            behind = _rows(decide.unsqueeze(1), parents).squeeze(1)
            positions = _rows(positions.unsqueeze(1), behind).squeeze(1) + 1
            itself = torch.where(torch.eye(self.branches, dtype=torch.bool), 0.0, -torch.inf)
            bias = torch.cat([_rows(bias, behind), itself], dim=1)
            decide = torch.arange(self.branches, dtype=torch.int32)
        best, scores, tokens, parents = (torch.stack(parts) for parts in zip(*found, strict=True))
        return best, scores, tokens, parents, torch.stack(recent)

    def _keep(
        self, best: Tensor, scores: Tensor, reach: Tensor | None, knots: Tensor, probabilities: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest choices of a level: tokens, the deciding rows behind which they stand, and their reach [B]."""
        likely = probability_of(scores[:, 0] - scores[:, 1], knots, probabilities)
        if reach is not None:
            likely = likely * reach.unsqueeze(1)
        kept_reach, kept = torch.topk(likely.flatten(), self.branches)
        return best.flatten()[kept], (kept // CHOICES).to(torch.int32), kept_reach


def probability_of(margins: Tensor, knots: Tensor, probabilities: Tensor) -> Tensor:
    """By rank, straight lines between the knots and level outside, as `Calibration.probability`: [D] -> [D, CHOICES]."""
    widths = (knots[:, 1:] - knots[:, :-1]).clamp(min=1e-9)
    share = ((margins.view(-1, 1, 1) - knots[:, :-1]) / widths).clamp(0.0, 1.0)
    return probabilities[:, 0] + (share * (probabilities[:, 1:] - probabilities[:, :-1])).sum(dim=-1)


def export_levels(graph: DraftGraph, file: Path, levels: int, branches: int = 1) -> None:
    """Write it as ONNX: INPUTS (a chain has no curves) and the cache, OUTPUTS. Rows, slots and knots are open. Raises
    EdgespecError."""
    rows, slots, knots = 5, 192, 9
    cache = graph.empty_cache(slots)
    curves = torch.arange(knots).float().expand(CHOICES, knots).contiguous()
    arguments = (
        torch.zeros(rows, dtype=torch.int32),
        torch.arange(rows, dtype=torch.int32),
        torch.zeros(rows, slots, dtype=torch.bool),
        torch.ones(rows, rows, dtype=torch.bool).tril(),
        torch.tensor([rows - 1], dtype=torch.int32),
        torch.zeros(levels, graph.head.weight.shape[0]),
        torch.tensor(1.0),
        curves,
        curves / knots,
        cache,
    )
    r, w, j = Dim("rows"), Dim("slots"), Dim("knots")
    curve = {1: j}
    shapes = (
        *({0: r}, {0: r}, {0: r, 1: w}, {0: r, 1: r}, None, None, None),
        *(curve, curve, [{0: w} for _ in cache]),
    )
    unrolled = LevelsGraph(graph, levels, branches).eval()
    write_onnx(unrolled, file, arguments, shapes, list(INPUTS), list(OUTPUTS))


def _repeated(found: Tensor, branches: int) -> Tensor:
    return found if found.shape[0] == branches else found.expand(branches, -1)


def _rows(table: Tensor, indices: Tensor) -> Tensor:
    return nn.functional.embedding(indices, table)
