"""What a simulation is given: the answers of the models, and how long everything takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class ScriptedModel(Protocol):
    """What the models answer: pure functions of the text so far."""

    def target(self, text: Sequence[int]) -> int:
        """The target's next token."""
        ...

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        """The draft's best next tokens and their probabilities, best first."""
        ...

    def exit(self, text: Sequence[int], layer: int) -> tuple[int, float]:
        """An exit's next token and its probability."""
        ...


@dataclass(frozen=True)
class Timing:
    """Milliseconds: a run of the draft, a forward of the target, the way up and down (a callable draws each one).

    server_draft_ms: of a draft that the server hosts and lends; None: it lends none, and in mode `colocated` its draft
    is as fast as the edge's. joint_server_drafts: that draft runs for all sessions in one batch; otherwise for one
    after the other, as edgespec's own does.
    """

    draft_ms: Callable[[int], float] = lambda rows: 6.0
    forward_ms: Callable[[int], float] = lambda rows: 28.0
    up_ms: Callable[[], float] = lambda: 10.0
    down_ms: Callable[[], float] = lambda: 10.0
    server_draft_ms: Callable[[int], float] | None = None
    joint_server_drafts: bool = False
    exits: tuple[tuple[int, float], ...] = ((4, 1 / 3), (8, 2 / 3))
    """Exit layers, and the share of a forward after which each reports."""
    exit_cost: float = 0.0
    """What the exits add to a forward, as a share of it."""
