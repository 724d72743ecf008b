"""Texts as sequences of llama.cpp's memory, over a stand-in for it that keeps the same rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted_models import VOCABULARY, HashModel
from stubs import ENGINE_FACTS, serving, stub_session

from edgespec.model.llamacpp.engine import LlamaCppEngine
from edgespec.model.llamacpp.sequences import Row, SequencePool, SessionSequence
from edgespec.model.target_engine import KvFull

pytestmark = pytest.mark.needs_torch
SCRIPTED = HashModel(draft_right=0.7)


class StubDecoder:
    """Each sequence's tokens, without gaps."""

    def __init__(self, sequences: int = 8, cells: int = 1024) -> None:
        self.sequences, self.cells = sequences, cells
        self.held: list[list[int]] = [[] for _ in range(sequences)]
        self.longest = 0

    def remove(self, sequence: int, start: int) -> None:
        del self.held[sequence][start:]

    def decode(self, sequence: int, rows: Sequence[Row]) -> NDArray[np.float32]:
        held, logits = self.held[sequence], []
        self.longest = max(self.longest, sum(row.decide for row in rows))
        for row in rows:
            assert row.position == len(held), "a text has gaps"
            held.append(row.token)
            if row.decide:
                scores = np.zeros(VOCABULARY, np.float32)
                scores[SCRIPTED.target(held)] = 9.0
                logits.append(scores)
        assert len(held) <= self.cells
        return np.array(logits, np.float32).reshape(-1, VOCABULARY)


def engine(decoder: StubDecoder) -> LlamaCppEngine:
    return LlamaCppEngine(decoder, ENGINE_FACTS)


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
    assert mode not in ("sync", "preempt") or decoder.longest > 1, "no draft was verified"
    assert not any(decoder.held), "a session that ended holds cells"


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
    assert not any(decoder.held)


def test_a_session_has_a_sequence_of_its_own_or_waits_for_one() -> None:
    pool = SequencePool(StubDecoder(), 2, 256)
    sessions = [SessionSequence(pool) for _ in range(3)]
    for one in sessions[:2]:
        one.reserve(130)
    with pytest.raises(KvFull) as caught:
        sessions[2].reserve(70)
    assert (caught.value.missing_slots, pool.used, pool.count) == (pool.cells, 8, 8)
    sessions[0].release()
    sessions[2].reserve(256)
    assert pool.used == 8
    with pytest.raises(KvFull):
        sessions[2].reserve(257)
