"""An exit's last launch goes beside the layers: what runs where, what waits for what, and whose memory is kept; with
stand-ins for torch.cuda's streams."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_exit_hint import inputs

from edgespec.kernels import exit_head_launch
from edgespec.kernels.data import CELL_WORDS, Cells
from edgespec.kernels.exit_hint import exit_hint
from edgespec.kernels.side_stream import SideStream
from edgespec.model.exit_reader import ExitReader
from edgespec.model.mailbox_exits import MailboxExits

CPU = torch.device("cpu")


class Streams:
    """The stream that launches go to, and the order of what streams were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = "layers"
        self.told: list[tuple[str, ...]] = []
        patched = {
            "Stream": lambda device: self._stream("beside"),
            "current_stream": lambda: self._stream(self.current),
            "stream": self._within,
        }
        for name, value in patched.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.told.append((name, "waits for", other.name))
        )

    @contextmanager
    def _within(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    found = Streams(monkeypatch)

    def launch(kernel: str, *_: Any) -> None:
        found.told.append((found.current, "runs", kernel))

    monkeypatch.setattr(exit_head_launch, "launch", launch)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that Triton's backend is taken on the CPU
    return found


def test_a_hint_is_written_beside_the_layers(streams: Streams) -> None:
    beside = SideStream(CPU)
    words = torch.zeros(2, 8, 1, CELL_WORDS, dtype=torch.int32)
    cells = Cells(words, torch.ones(1, dtype=torch.int32), 0)
    exit_hint(**inputs(1), cells=cells, backend="triton", beside=beside)
    beside.join()
    assert streams.told == [
        ("layers", "runs", "exit_head_rows"),
        ("layers", "runs", "exit_head_parts"),
        ("beside", "waits for", "layers"),
        ("beside", "runs", "exit_head_finish"),
        ("layers", "waits for", "beside"),
    ]


def test_what_is_used_beside_is_nobody_elses_until_the_streams_join(streams: Streams) -> None:
    beside, memory = SideStream(CPU), torch.zeros(4)
    seen = weakref.ref(memory)
    with beside.behind_this_one(memory):
        assert streams.current == "beside"
    del memory
    gc.collect()
    assert seen() is not None
    beside.join()
    gc.collect()
    assert seen() is None


def test_a_forward_that_publishes_ends_behind_its_hints(streams: Streams) -> None:
    cells = MailboxExits(SimpleNamespace(), {}, CPU)  # type: ignore[arg-type]
    cells._beside = SideStream(CPU)
    reader = ExitReader.__new__(ExitReader)
    reader.mailbox_exits, reader._publish, reader._published = cells, None, frozenset()
    with reader.publishing(SimpleNamespace(), frozenset({1})):  # type: ignore[arg-type]
        assert streams.told == []
    assert streams.told == [("layers", "waits for", "beside")] and reader._publish is None


def test_a_cpu_has_no_streams() -> None:
    MailboxExits(SimpleNamespace(), {}, CPU).join()  # type: ignore[arg-type]
    assert np.count_nonzero(MailboxExits(SimpleNamespace(), {}, CPU).cells) == 0  # type: ignore[arg-type]
