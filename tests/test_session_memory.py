"""Key-value memory of a server's sessions, on a real target: short, given up, taken again, shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from stubs import VOCABULARY_HASH, play, serving
from test_many_sessions import session
from tiny_models import tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest
from edgespec.server.server import Server

NEED = -(-(3 + 30 + 65) // SLOT_BUCKET)
"""Pages of one session here."""


@pytest.fixture
def target() -> Target:
    model = tiny()
    page_bytes = Target(LoadedModel(model, "tiny", VOCABULARY_HASH), kv_memory="1MiB").pool.page_bytes
    memory = (2 * NEED + 1) * page_bytes
    return Target(LoadedModel(model, "tiny", VOCABULARY_HASH), kv_memory=memory)


def test_what_does_not_fit_is_refused_and_what_runs_goes_on(target: Target) -> None:
    with serving(target) as server, session(server) as one, session(server) as two:
        for running in (one, two):
            running.prompt([5, 6, 7])
            running.step()
        with session(server) as three, pytest.raises(EdgespecError, match="key-value memory lacks"):
            play(three, [5, 6, 7])
        list(one), list(two)
        assert one.tokens == two.tokens
        assert len(one.tokens) == 30


def test_a_finished_text_gives_its_memory_up_and_is_rebuilt_for_its_next_turn(target: Target) -> None:
    def conversation(server: Server, between: Callable[[], None]) -> list[int]:
        with session(server) as one:
            play(one, [5, 6, 7])
            between()
            one.append([8, 9], max_new_tokens=10)
            list(one)
            return one.tokens

    def others(server: Server) -> None:
        with session(server) as two, session(server) as three:
            for other in (two, three):
                other.prompt([9, 9, 9])
                other.step()
            list(two), list(three)

    with serving(target) as server:
        undisturbed = conversation(server, lambda: None)
        assert conversation(server, lambda: others(server)) == undisturbed


def test_the_end_of_a_session_frees_its_memory(target: Target) -> None:
    free = target.pool.pages.free
    with serving(target) as server:
        for _ in range(3):
            with session(server) as one:
                play(one, [5, 6, 7])
        with session(server) as one:
            one.prompt([5, 6, 7])
    assert target.pool.pages.free + target.pool.pages.reclaimable == free


def test_a_prompt_that_another_session_had_is_not_computed_again() -> None:
    target = Target(LoadedModel(tiny(), "tiny", VOCABULARY_HASH), kv_memory="64MiB")
    rows: list[int] = []
    forward_batch = target.forward_batch

    def count(parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None) -> Any:
        rows.append(sum(len(part.piece) for part in parts))
        return forward_batch(parts, exit_layers)

    target.forward_batch = count  # type: ignore[method-assign]
    prompt = [5 + i % 40 for i in range(300)]
    texts = []
    with serving(target) as server:
        for _ in range(2):
            with session(server, max_new_tokens=5) as one:
                play(one, prompt)
                texts.append(one.tokens)
    assert texts[0] == texts[1]
    assert sum(rows) == (300 + 4) + (300 - 4 * SLOT_BUCKET + 4)
