"""Draft trees as sequences of llama.cpp's memory, over a stand-in for it that keeps the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted_models import VOCABULARY, HashModel
from stubs import VOCABULARY_HASH, serving, stub_session

from edgespec.model.llamacpp.engine import LlamaCppEngine
from edgespec.model.llamacpp.sequences import MOST_SEQUENCES, Row, SequencePool, SessionSequences
from edgespec.model.target_engine import KvFull

pytestmark = pytest.mark.needs_torch
SCRIPTED = HashModel(draft_right=0.7)
FACTS: dict[str, Any] = {
    "target_id": "stub",
    "vocabulary_hash": VOCABULARY_HASH,
    "vocabulary_size": VOCABULARY,
    "context_length": 512,
    "end_tokens": (),
    "tokenizer_path": None,
    "layers": 4,
}


class StubDecoder:
    """Cells hold a position, a token and sequences; a row's text is what its first sequence holds."""

    def __init__(self, cells: int = 8192) -> None:
        self.cells = cells
        self.held: list[tuple[int, int, set[int]]] = []
        self.widest = 0

    def positions(self, sequence: int) -> list[int]:
        return sorted(position for position, _, own in self.held if sequence in own)

    def remove(self, sequence: int, start: int, end: int) -> None:
        for position, _, own in self.held:
            if position >= start and (end < 0 or position < end):
                own.discard(sequence)
        self.held = [cell for cell in self.held if cell[2]]

    def share(self, source: int, destination: int, start: int, end: int) -> None:
        for position, _, own in self.held:
            if source in own and position >= start and (end < 0 or position < end):
                own.add(destination)

    def decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        logits = []
        together = {sequence for row in rows for sequence in row.sequences}
        ends = {sequence: max(self.positions(sequence), default=-1) for sequence in together}
        for row in rows:
            assert all(0 <= sequence < MOST_SEQUENCES for sequence in row.sequences)
            self.widest = max(self.widest, len(row.sequences))
            assert len({ends[sequence] for sequence in row.sequences}) == 1, "coupled sequences have diverged"
            self.held.append((row.position, row.token, set(row.sequences)))
            cells = [cell for cell in self.held if row.sequences[0] in cell[2] and cell[0] <= row.position]
            cells.sort(key=lambda cell: cell[0])
            assert [cell[0] for cell in cells] == list(range(row.position + 1)), "a text with gaps"
            for sequence in row.sequences:
                ends[sequence] += 1
                assert ends[sequence] == row.position, "positions of a sequence must be consecutive"
            if row.decide:
                scores = np.zeros(VOCABULARY, np.float32)
                scores[SCRIPTED.target([token for _, token, _ in cells])] = 9.0
                logits.append(scores)
        assert len(self.held) <= self.cells
        return np.array(logits, np.float32).reshape(-1, VOCABULARY)


def engine(decoder: StubDecoder) -> LlamaCppEngine:
    return LlamaCppEngine(decoder, FACTS)


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream", "predicted", "auto"])
def test_texts_of_every_mode_are_those_of_the_model(mode: str) -> None:
    decoder = StubDecoder()
    with serving(engine(decoder)) as server, stub_session(server.port, scripted=SCRIPTED, mode=mode) as one:
        one.prompt([1, 2, 3])
        list(one)
        assert one.tokens == SCRIPTED.continuation([1, 2, 3], 40)
        text = [1, 2, 3, *one.tokens[:20], 7, 8]
        one.append([7, 8], keep_length=23)
        list(one)
        assert one.tokens == SCRIPTED.continuation(text, 40)
    assert mode not in ("stream", "auto") or decoder.widest > 1, "no tree was verified"
    assert not decoder.held, "a session that ended holds cells"


def test_many_sessions_share_the_memory_and_leave_nothing_behind() -> None:
    decoder = StubDecoder()
    with serving(engine(decoder)) as server:
        sessions = [stub_session(server.port, scripted=SCRIPTED, mode="stream") for _ in range(4)]
        for number, one in enumerate(sessions):
            one.prompt([number, 2, 3])
        for number, one in enumerate(sessions):
            list(one)
            assert one.tokens == SCRIPTED.continuation([number, 2, 3], 40)
            one.close()
    assert not decoder.held


def test_memory_is_taken_before_it_is_promised() -> None:
    pool = SequencePool(StubDecoder(), 256)
    first, second = SessionSequences(pool), SessionSequences(pool)
    first.reserve(130)
    with pytest.raises(KvFull) as caught:
        second.reserve(70)
    assert (caught.value.missing, pool.used, pool.count) == (1, 3, 4)
    first.release()
    second.reserve(70)
    assert pool.used == 2
