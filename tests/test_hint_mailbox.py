"""The mailbox of hints from Python: cells in a numpy array, hints on a real connection, with no more calls between.

What is sent and what is not is tested in C++: tests/cpp/test_hint_mailbox.cpp.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from links import MAX_WAIT_S, linked, listening

from edgespec import _native
from edgespec._native import COMMITTED_BIT, HintMailbox, Listener, ResilientConnection, publish_hint

LAYERS = [8, 16]
PLACES = 3
REFERENCES = np.array([COMMITTED_BIT | 4, 11, 12], dtype=np.uint32)


def empty_cells(*shape: int) -> Any:
    return np.zeros(shape or (2, PLACES, len(LAYERS), 8), dtype=np.int32)


def mailbox_of(listener: Listener, cells: Any, rows: int = 8) -> Any:
    return closing(HintMailbox(listener, cells, LAYERS, rows))


def hint_of(connection: ResilientConnection) -> Any:
    hint = connection.receive(MAX_WAIT_S)
    assert isinstance(hint, _native.Hint)
    return hint


def test_a_cell_becomes_a_hint_on_the_wire() -> None:
    with linked() as (connection, listener, session), mailbox_of(listener, cells := empty_cells()) as mailbox:
        mailbox.arm(1, [(session, 1, 4, 2, 0.25, REFERENCES)])
        publish_hint(cells, 1, place=1, exit=0, length=0, end=0, token=77, confidence=0.5)
        hint = hint_of(connection)
        assert (hint.base_length, hint.node, hint.token) == (4, COMMITTED_BIT | 4, 77)
        assert (hint.layer, hint.turn, hint.confidence) == (8, 2, 0.5)
        publish_hint(cells, 1, place=1, exit=1, length=2, end=2, token=78, confidence=0.75)
        hint = hint_of(connection)
        assert (hint.layer, hint.node, hint.token) == (16, 12, 78)
        assert mailbox.retire(1) == [2]


def test_the_cells_live_as_long_as_the_mailbox() -> None:
    with linked() as (connection, listener, session):
        cells = empty_cells()
        mailbox = HintMailbox(listener, cells, LAYERS, 8)
        alive = weakref.ref(cells)
        del cells
        gc.collect()
        mailbox.arm(1, [(session, 2, 4, 0, 0.0, REFERENCES)])
        publish_hint(alive(), 1, place=2, exit=1, length=0, end=0, token=5, confidence=1.0)
        assert hint_of(connection).token == 5
        del mailbox
        gc.collect()
        assert alive() is None


def test_a_session_that_is_gone_costs_nothing() -> None:
    with linked() as (connection, listener, session), mailbox_of(listener, cells := empty_cells()) as mailbox:
        # Both cells are written before the mailbox looks, so that it has done with the first once the second arrives.
        publish_hint(cells, 1, place=0, exit=0, length=0, end=0, token=5, confidence=1.0)
        publish_hint(cells, 1, place=1, exit=0, length=0, end=0, token=6, confidence=1.0)
        mailbox.arm(1, [(session + 99, 0, 4, 0, 0.0, REFERENCES), (session, 1, 4, 0, 0.0, REFERENCES)])
        assert hint_of(connection).token == 6
        assert mailbox.retire(1) == [0, 1]


def test_a_closed_mailbox_takes_no_more() -> None:
    with linked() as (_, listener, session):
        mailbox = HintMailbox(listener, empty_cells(), LAYERS, 8)
        mailbox.close()
        mailbox.arm(1, [(session, 0, 4, 0, 0.0, REFERENCES)])
        assert mailbox.retire(1) == []


def test_what_does_not_fit_is_refused() -> None:
    with listening() as listener:
        for shape in ((2, PLACES, 3, 8), (2, PLACES, len(LAYERS), 7), (1, PLACES, len(LAYERS), 8), (96,)):
            with pytest.raises(ValueError, match=r"int32 \[2, places, exits, 8\]"):
                HintMailbox(listener, empty_cells(*shape), LAYERS, 8)
        with pytest.raises(TypeError):
            HintMailbox(listener, empty_cells().astype(np.int64), LAYERS, 8)
        with mailbox_of(listener, cells := empty_cells(), rows=4) as mailbox:
            watch = (1, 0, 4, 0, 0.0, REFERENCES)
            with pytest.raises(ValueError, match="sequence number"):
                mailbox.arm(0, [watch])
            with pytest.raises(ValueError, match="more places or rows"):
                mailbox.arm(1, [watch, watch])
            with pytest.raises(ValueError, match="no such cell"):
                publish_hint(cells, 1, place=PLACES, exit=0, length=0, end=0, token=5, confidence=1.0)
