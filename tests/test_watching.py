"""Exits that leave their hints in cells: what a watcher sends is what callbacks would have been told.

Graphs here run their function again; cells are written by the CPU's backend of the kernels, and by Triton's in its
interpreter. The watcher is the native mailbox where a server is, and a plain one that reads the cells afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from numpy.typing import NDArray
from stubs import serving
from test_cuda_graphs import Rerun
from test_target_batch import Text, assert_same
from test_target_exits import exit_heads
from tiny_models import save, tiny

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.model import backends
from edgespec.model.mailbox_exits import LAST_NUMBER, MAX_SESSIONS
from edgespec.model.static_inputs import StaticInputs
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest, HintAddress

OutputBuffer = list[tuple[int, int, int, float]]
"""(layer, end, token, confidence) of what was said to a session, in order."""


class Reader:
    """A watcher that reads the cells when the forward is over; what it armed and what came of it."""

    def __init__(self, target: Target) -> None:
        assert target.hint_cells is not None
        target.hint_cells.mailbox = self
        self._cells = target.hint_cells.cells
        self._layers = target.exit_layers
        self.armed: list[tuple[int, Any]] = []
        self.said: dict[int, OutputBuffer] = {}

    def arm(
        self, sequence: int, watches: Sequence[tuple[int, int, int, int, float, NDArray[np.uint32]]]
    ) -> None:
        self.armed.append((sequence, watches))

    def retire(self, sequence: int) -> list[int]:
        _, watches = self.armed[-1]
        for session, place, *_ in watches:
            for exit, layer in enumerate(self._layers):
                cell = self._cells[sequence % 2, place, exit]
                if cell[0] == sequence:
                    hint = (layer, int(cell[2]), int(cell[3]), float(cell[4:5].view(np.float32)[0]))
                    self.said.setdefault(session, []).append(hint)
        return [len(self.said.get(session, [])) for session, *_ in watches]


def load(folder: Path) -> Target:
    folder = save(tiny(), folder)
    exit_heads(folder / "exits", folder)
    return Target.load(folder, dtype="float32", kv_memory="64MiB")


def parts_of(
    target: Target, heard: dict[int, OutputBuffer], sent: dict[int, int] | None
) -> list[ForwardRequest]:
    """Three sessions' trees, the second of which does not listen, behind their prefills."""
    shapes = [(5, 3), (21, 3), (70, 6)]
    texts = [Text(target, length, seed) for seed, (length, _) in enumerate(shapes)]
    target.forward_batch([text.part(length - 3) for text, (length, _) in zip(texts, shapes, strict=True)])
    parts = []
    for number, (text, (length, nodes)) in enumerate(zip(texts, shapes, strict=True)):
        if number == 1:
            parts.append(text.part(length, nodes))
            continue

        def hear(rows: ExitRows, number: int = number) -> None:
            guess = rows.guess
            end = guess.path[-1] if guess.path else 0
            heard.setdefault(number, []).append((rows.layer, end, guess.token, guess.confidence))

        watch = None
        if sent is not None:
            references = np.arange(1, nodes + 2, dtype=np.uint32)
            watch = HintAddress(
                number, length, 0, 0.5, references, lambda count, n=number: sent.update({n: count})
            )
        parts.append(text.part(length, nodes, on_exit=hear, hint_address=watch))
    return parts


@pytest.mark.parametrize("backend", BACKENDS)
def test_cells_hold_what_callbacks_are_told(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = load(tmp_path / "eager")
    told: dict[int, OutputBuffer] = {}
    wanted = eager.forward_batch(parts_of(eager, told, None))
    monkeypatch.setitem(backends.BACKEND_OF_DEVICE, "cpu", backend)
    target = load(tmp_path / "graphed")
    graphs = Rerun()
    target.use_graphs(graphs)
    reader = Reader(target)
    heard: dict[int, OutputBuffer] = {}
    sent: dict[int, int] = {}
    parts = parts_of(target, heard, sent)
    got = target.forward_batch(parts)
    assert not heard and set(reader.said) == {0, 2} and sent == {0: 2, 2: 2}
    for left, right in zip(got, wanted, strict=True):
        assert_same(left, right)
    for session, said in reader.said.items():
        assert [one[:3] for one in said] == [one[:3] for one in told[session]]
        np.testing.assert_allclose([one[3] for one in said], [one[3] for one in told[session]], atol=1e-3)


def test_forwards_are_numbered_odd_and_even_in_turns(tmp_path: Path) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    reader = Reader(target)
    target.hint_cells._number = LAST_NUMBER - 1  # type: ignore[union-attr]
    for _ in range(3):
        target.forward_batch(parts_of(target, {}, {}))
    assert [sequence for sequence, _ in reader.armed] == [LAST_NUMBER, 1, 2]
    assert LAST_NUMBER % 2 == 0 and LAST_NUMBER < 2**31


def test_without_a_watcher_callbacks_are_called(tmp_path: Path) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    heard: dict[int, OutputBuffer] = {}
    target.forward_batch(parts_of(target, heard, {}))
    assert {session: len(said) for session, said in heard.items()} == {0: 2, 2: 2}


def test_a_forward_beyond_the_buckets_calls_back(tmp_path: Path) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    reader = Reader(target)
    heard: dict[int, OutputBuffer] = {}
    parts = parts_of(target, heard, {})
    prompt = Text(target, 90, 7).part(80)
    target.forward_batch([*parts, prompt])
    assert set(heard) == {0, 2} and not reader.armed


def test_where_a_capture_fails_hints_go_through_cells_nevertheless(tmp_path: Path) -> None:
    target = load(tmp_path)

    def fail(function: Callable[[], torch.Tensor]) -> Any:
        raise RuntimeError("no capture")

    target.use_graphs(fail)
    reader = Reader(target)
    for _ in range(2):
        reader.said.clear()
        target.forward_batch(parts_of(target, {}, {}))
        assert set(reader.said) == {0, 2}


def test_the_watcher_is_released_when_a_forward_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    reader = Reader(target)
    parts = parts_of(target, {}, sent := {})

    def fail(inputs: StaticInputs, *_: Any) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(target.hint_cells, "publish", fail)
    with pytest.raises(ValueError, match="broken"):
        target.forward_batch(parts)
    assert len(reader.armed) == 1 and sent == {0: 0, 2: 0}


def test_places_are_enough_for_a_bucket_full_of_sessions(tmp_path: Path) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    reader = Reader(target)
    texts = [Text(target, 4, seed) for seed in range(MAX_SESSIONS)]
    parts = [
        text.part(
            1,
            on_exit=lambda rows: None,
            hint_address=HintAddress(seed, 1, 0, 0.0, np.ones(1, np.uint32), print),
        )
        for seed, text in enumerate(texts)
    ]
    sent: dict[int, int] = {}
    for number, part in enumerate(parts):
        object.__setattr__(part.hint_address, "sent", lambda count, n=number: sent.update({n: count}))
    target.forward_batch(parts)
    assert len(reader.said) == MAX_SESSIONS == len(sent)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_server_sends_hints_through_its_mailbox(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_draft(bundled_engine())
    sampling = SamplingParams(temperature=temperature, max_new_tokens=24, seed=5, ignore_eos=True)

    def run(target: Target) -> tuple[list[int], int]:
        """The text, and how many hints the server sent for it."""
        with serving(target) as server:
            address = (server.host, server.port)
            with Session(address, engine, sampling, mode="preempt") as session:
                session.prompt("def read_lines(path):\n    ")
                for _ in session:
                    pass
                (summary,) = server.call(server.sessions.summaries).result(20)
                return session.tokens, summary["hints"]

    text, hints = run(Target.load(dtype="float32", threads=1))
    target = Target.load(dtype="float32", threads=1)
    graphs = Rerun()
    target.use_graphs(graphs)
    monkeypatch.setattr(_native, "encode_hint", lambda *_, **__: pytest.fail("a hint went through Python"))
    assert hints > 0
    again, sent = run(target)
    assert again == text and sent > 0 and graphs.replays > 5
