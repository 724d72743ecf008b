"""Named settings that latency is measured in: a link, the paces of the engines, and what is wrong with them.

Paced engines hold every step to a time, so that one machine plays any hardware's proportions. The paper's times are for
blocks of four tokens, and are played at `scale` times their length: the proportions stay, the run gets shorter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import Piece
from edgespec.engines.draft_engine import DraftEngine
from edgespec.sim.emulated_link import LinkShape


@dataclass(frozen=True)
class LatencySetting:
    """One link and two paced engines (milliseconds before scaling; None: at full speed).

    wrong_draft: the share of the draft's choices that are replaced by wrong ones. server_draft_ms: of a draft that the
    server hosts; None: it hosts none. modes: those that are played in this setting; none: those asked for.
    """

    name: str
    draft_ms: float | None
    forward_ms: float | None
    rtt_ms: float
    scale: float = 1.0
    jitter_ms: float = 0.0
    mbps: float | None = None
    wrong_draft: float = 0.0
    wrong_exits: bool = False
    server_draft_ms: float | None = None
    modes: tuple[str, ...] = ()

    @property
    def link(self) -> LinkShape:
        return LinkShape(self.rtt_ms * self.scale, self.jitter_ms * self.scale, self.mbps)

    def scaled(self, milliseconds: float | None) -> float | None:
        return None if milliseconds is None else round(milliseconds * self.scale, 3)


ORIN = LatencySetting("a100-orin", 6.0, 28.0, 0.0)
"""A 7B target on an A100, Vicuna-68M on an Orin."""

HOSTED = replace(ORIN, name="hosted-draft", server_draft_ms=1.5, modes=("cloud", "colocated", "auto"))

SETTINGS = {
    "paper-jetson": [LatencySetting("paper-jetson", 301 / 4, 522.0, 96.0, scale=0.2)],
    "paper-rtx": [LatencySetting("paper-rtx", 99 / 4, 467.0, 47.0, scale=0.2)],
    "go2": [LatencySetting("go2", 288 / 4, 620.0, 120.0, scale=0.2)],
    "a100-orin": [replace(ORIN, rtt_ms=rtt_ms) for rtt_ms in (0.0, 10.0, 20.0, 40.0, 80.0, 160.0)],
    "rough-link": [replace(ORIN, name="rough-link", rtt_ms=40.0, jitter_ms=20.0, mbps=1.0)],
    "acceptance": [replace(ORIN, name="acceptance", rtt_ms=20.0, wrong_draft=share) for share in (0.25, 0.5)],
    "wrong-draft": [replace(ORIN, name="wrong-draft", rtt_ms=20.0, wrong_draft=1.0)],
    "wrong-exits": [replace(ORIN, name="wrong-exits", rtt_ms=20.0, wrong_exits=True)],
    "hosted-draft": [replace(HOSTED, rtt_ms=rtt_ms) for rtt_ms in (0.0, 40.0, 160.0)],
    "unpaced": [LatencySetting("unpaced", None, None, rtt_ms) for rtt_ms in (0.0, 20.0, 40.0)],
}
"""The paper's: arXiv 2505.21594, the times of draft (four tokens), target and network."""


class WrongDraft:
    """An engine that chooses other tokens than the real draft at this share of positions, and is as sure of them."""

    def __init__(self, engine: DraftEngine, share: float) -> None:
        self._engine = engine
        self._share = share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(
        self, piece: Piece, noise: Any, noise_rows: Any, inverse_temperature: float, decide: Any = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        tokens, scores = self._engine.run(piece, noise, noise_rows, inverse_temperature, decide)
        positions = piece.positions if decide is None else piece.positions[decide]
        wrong = positions.astype(np.uint32) * np.uint32(2654435761) < self._share * 2**32
        other = (tokens + self._engine.vocabulary_size // 2) % self._engine.vocabulary_size
        return np.where(wrong[:, None], other, tokens), scores


def save_wrong_exits(exits: Path, folder: Path) -> None:
    """Write the exit heads of `exits` to `folder` with spoiled adapters and the calibration kept."""
    import torch

    from edgespec.model.exits import ExitHeads

    heads = ExitHeads.load(exits)
    random = torch.Generator().manual_seed(0)
    for head in heads.heads.values():
        spoiled = torch.randn(head.up.shape, generator=random).to(head.up) * 3 * head.up.float().std()
        head.up = head.up + spoiled
        head.norm = -head.norm
    heads.save(folder)
