"""What a capture does to CUDA's streams and memory, with stand-ins for torch.cuda: the thread's stream, the first cause
of a failure, memory for graphs, and inputs that a copy still reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_cuda_graphs import Rerun, load
from test_target_batch import Text

from edgespec.core.errors import EdgespecError
from edgespec.kernels import tree_attention_launch
from edgespec.kernels.attention_plan import AttentionPlan, HeadGroups
from edgespec.model import memory
from edgespec.model.cuda_graphs import WARM_UPS, CudaCapture, graph_bytes
from edgespec.model.static_inputs import ROWS


class Runtime:
    """What of torch.cuda a capture uses; remembers the order of what is done to it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.on: list[str] = ["current"]
        self.fails = False

    def stream_named(self, name: str) -> Any:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.done.append((name, "waits", other.name))
        )

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        before = list(self.on)
        self.on.append(name)
        try:
            yield
        finally:
            self.on[:] = before

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @contextmanager
        def graph(graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
            """As torch.cuda.graph: where the capture fails, ending it fails too, and the stream stays."""
            assert capture_error_mode == "thread_local"
            self.on += [stream.name, f"capture into pool {pool}"]
            try:
                yield
            finally:
                if self.fails:
                    raise RuntimeError("the capture was invalidated")
                del self.on[-2:]

        graphs = iter(range(9))
        replaced = {
            "graph_pool_handle": lambda: 42,
            "Stream": lambda: self.stream_named("side"),
            "current_stream": lambda: self.stream_named("current"),
            "stream": lambda stream: self.within(stream.name),
            "CUDAGraph": lambda: SimpleNamespace(replay=partial(self.done.append, f"replay {next(graphs)}")),
            "graph": graph,
        }
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_a_capture_warms_up_beside_and_shares_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    runtime.patch(monkeypatch)

    def run() -> torch.Tensor:
        runtime.done.append(runtime.on[-1])
        return torch.ones(1)

    capture = CudaCapture()
    replay, output = capture(run)
    assert runtime.done == [
        ("side", "waits", "current"),
        *["side"] * WARM_UPS,
        ("current", "waits", "side"),
        "capture into pool 42",
    ]
    other, _ = capture(run)
    replay()
    other()
    assert runtime.done.count("capture into pool 42") == 2
    assert runtime.done[-2:] == ["replay 0", "replay 1"] and output.tolist() == [1]


def test_a_capture_that_fails_leaves_its_stream_and_names_the_first_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, runtime = load(tmp_path), Runtime()
    text = Text(target, 9, 1)
    part = text.part(6)
    runtime.patch(monkeypatch)
    run = target.runner._run_static

    def fail_in_the_capture(*given: Any) -> torch.Tensor:
        runtime.fails = "capture into pool 42" in runtime.on
        if runtime.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        return run(*given)

    monkeypatch.setattr(target.runner, "_run_static", fail_in_the_capture)
    target.use_graphs(CudaCapture())
    target.forward_batch([part])
    assert runtime.on == ["current"]
    assert "a capture failed: operation not permitted" in caplog.text


def test_a_bucket_that_finds_no_memory_runs_eagerly_and_the_others_by_graphs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target, graphs = load(tmp_path), Rerun()

    def capture(function: Callable[[], torch.Tensor]) -> Any:
        output = function()
        if len(output) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return graphs(function)

    target.use_graphs(capture)
    text = Text(target, 40, 1)
    for length in (5, 13, 14, 22):  # five rows, eight, one and eight
        target.forward_batch([text.part(length)])
    assert (graphs.captured, graphs.replays) == (1, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "forwards of up to 8 rows that see up to 256 slots run without a CUDA graph, for want of memory; give less "
        "--kv-memory"
    ]


def test_memory_is_held_back_for_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path).model
    widths = 256, 8192
    with_exits, without = (graph_bytes(model, widths, None, exits) for exits in (True, False))
    assert with_exits > without > 127 * 2 * model.vocabulary_size * 8
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000.0)
    assert memory.kv_pages("100%", 10, torch.device("cuda"), "tiny", held_back=200) == 80
    with pytest.raises(EdgespecError, match="ask for less"):
        memory.kv_pages(900, 10, torch.device("cuda"), "tiny", held_back=200)


def test_what_attention_leaves_for_its_join_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69 MB for Llama-2-7B's heads."""
    groups, rows, width = HeadGroups.of(32, 32, 2), ROWS[-1], 128
    queries = groups.tile_queries(rows)
    tiles = groups.most_tiles(rows, queries)
    made = [np.zeros((count, size), np.int32) for count, size in ((groups.most_items(tiles), 5), (tiles, 4))]
    plan = AttentionPlan(np.zeros(1), np.zeros((rows, 2)), *made, np.zeros(2), queries)
    taken: list[int] = []
    monkeypatch.setattr(
        tree_attention_launch,
        "launch",
        lambda kernel, programs, given, *_: (
            taken.append(given[7].nbytes + given[8].nbytes) if kernel == "tree_attention_parts" else None
        ),
    )
    query, pool = torch.empty(rows, 32, width).bfloat16(), torch.empty(32, 64, width).bfloat16()
    tree_attention_launch.tree_attention(query, pool, pool, plan, 1.0, 0.0, None)
    assert taken == [groups.scratch_bytes(rows, width)] and taken[0] > 69e6
    model = load(tmp_path).model
    own = HeadGroups.of(4, 2, 8)
    paged = [graph_bytes(model, (32768,), one, False) for one in (own, replace(own, kv_heads=64))]
    head = model.config.hidden_size // model.config.num_attention_heads
    more = replace(own, kv_heads=64).scratch_bytes(rows, head) - own.scratch_bytes(rows, head)
    assert paged[1] - paged[0] == more > 0


def test_inputs_are_not_written_while_they_are_still_copied(tmp_path: Path) -> None:
    target, waits = load(tmp_path), []

    class Event:
        def record(self) -> None:
            waits.append("copied")

        def synchronize(self) -> None:
            waits.append(static.host["tokens"][0].tolist())

    target.use_graphs(Rerun())
    text = Text(target, 9, 1)
    target.forward_batch([text.part(1)])
    (inputs,) = target.runner.graphs._inputs.values()
    static = inputs._fields
    first = static.host["tokens"][0].tolist()
    static.copied = Event()
    target.forward_batch([text.part(2)])
    assert waits == [first, "copied"]
