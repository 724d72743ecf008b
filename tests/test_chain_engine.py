"""An engine that verifies chains alone: the texts are the same in every mode, and no forward holds a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scripted_models import HashModel
from stubs import StubTarget, serving, stub_session

from edgespec.model.target_engine import ForwardRequest

SCRIPTED = HashModel(draft_right=0.7)


class ChainTarget(StubTarget):
    trees = False

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        for part in parts:
            positions = part.piece.positions.tolist()
            assert positions == list(range(positions[0], positions[0] + len(positions)))
        return super().forward_batch(parts, exit_layers)


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream", "auto"])
def test_texts_over_chains_are_those_over_trees(mode: str) -> None:
    with (
        serving(ChainTarget(SCRIPTED)) as server,
        stub_session(server.port, scripted=SCRIPTED, mode=mode) as one,
    ):
        one.prompt([1, 2, 3])
        steps = list(one)
    assert one.tokens == SCRIPTED.continuation([1, 2, 3], 40)
    assert steps[-1].finish_reason == "length"
    if mode in (
        "sync",
        "preempt",
    ):  # the server waits for the drafts of these alone: others may come too late
        assert one.statistics.accepted > 0
