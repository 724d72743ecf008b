"""What exits add to a forward is timed on forwards that run them and on others that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_cuda_graphs import Rerun

from edgespec.bench import exit_cost
from edgespec.model.target import Target
from edgespec.model.target_engine import Decisions, ForwardRequest

SHAPE = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@pytest.fixture
def target() -> Target:
    return exit_cost.random_target(SHAPE, (1, 3), torch.device("cpu"), torch.float32)


def test_every_other_forward_runs_the_exits(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    reached: list[int] = []
    forward_batch = target.forward_batch

    def watched(parts: list[ForwardRequest]) -> list[Decisions]:
        (part,) = parts
        asked.append(part.on_exit is not None)
        if part.on_exit is not None:
            part = replace(part, on_exit=lambda rows: reached.append(rows.layer))
        return forward_batch([part])

    monkeypatch.setattr(target, "forward_batch", watched)
    plain_ms, hinted_ms = exit_cost.forward_ms(target, runs=2)
    assert asked == [False, *[False, True] * 5]
    assert reached == [1, 3] * 5
    assert plain_ms > 0 and hinted_ms > 0


def test_captured_forwards_are_timed_alike_and_leave_their_hints(target: Target) -> None:
    target.use_graphs(Rerun())
    assert target.hint_cells is not None and target.runner.graphs is not None
    target.hint_cells.mailbox = exit_cost.Unread()
    exit_cost.forward_ms(target, runs=2)
    assert not target.runner.graphs.failed
    assert np.count_nonzero(target.hint_cells.cells[:, 0, :, 0]) == 4  # both halves, two exits each
