"""A server's shared memory: texts make others of the same tenant faster, where both sides allow it, and change none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_models import HashModel
from stubs import StubTarget, play, serving, stub_session

from edgespec import _native
from edgespec.cli.options import Remembering
from edgespec.core.errors import EdgespecError
from edgespec.core.prompt_lookup import PromptLookup
from edgespec.core.remembered_texts import remembered_part
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.policies import Cloud
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import NO_SHARED_MEMORY, Session
from edgespec.server.server import Server
from edgespec.server.settings import ServerSecurity, ServerSettings
from edgespec.server.shared_memory import LONGEST_TEXT, MOST_HOLDERS, SharedMemory, add_text, shared_memory
from edgespec.server.tokens import add_token

PROMPT = list(range(1, 13))
SCRIPTED = HashModel()
TEXT = SCRIPTED.continuation(PROMPT, 40)


def session(server: Server, shared: bool = True, token: str | None = None, **options: Any) -> Session:
    """It drafts nothing, so what is found was looked up."""
    looking_up = Cloud()
    looking_up.options = ServerOptions(fill=True, prompt_lookup=True)
    return stub_session(
        server.port,
        scripted=SCRIPTED,
        mode=looking_up,
        link=LinkOptions(token=token),
        shared_memory=shared,
        **options,
    )


def forwards(server: Server, shared: bool = True, token: str | None = None) -> int:
    """Of the target for one text, which is right."""
    with session(server, shared, token) as one:
        play(one, PROMPT)
        assert one.tokens == TEXT
        return one.statistics.target_forwards


@contextmanager
def serving_tenants(folder: Path) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server with shared memory, and tokens of two tenants' devices and of two that belong to none."""
    file = folder / "tokens"
    tenants = {"robot-1": "blue", "robot-2": "blue", "robot-3": "red", "alone-1": "", "alone-2": ""}
    tokens = {device: add_token(file, device, tenant or None) for device, tenant in tenants.items()}
    security = ServerSecurity(tokens=file)
    with serving(StubTarget(SCRIPTED), shared_memory=True, security=security) as server:
        yield server, tokens


def test_a_text_makes_others_of_its_tenant_faster_and_nobody_elses(tmp_path: Path) -> None:
    with serving_tenants(tmp_path) as (server, tokens):
        first = forwards(server, token=tokens["robot-1"])
        for device in ("robot-3", "alone-1"):
            assert forwards(server, token=tokens[device]) == first, (
                "it knows nothing of another tenant's texts"
            )
        for device in ("robot-1", "robot-2", "robot-3", "alone-1"):
            assert forwards(server, token=tokens[device]) < first / 2
        assert forwards(server, token=tokens["alone-2"]) == first, (
            "who belongs to no tenant shares with nobody"
        )


@pytest.mark.parametrize("who", ["feeds", "looks up"])
def test_a_device_that_does_not_ask_neither_feeds_nor_looks_up(who: str) -> None:
    with serving(StubTarget(SCRIPTED), shared_memory=True) as server:
        first = forwards(server, shared=who != "feeds")
        assert forwards(server, shared=who != "looks up") == first


def test_a_server_that_shares_nothing_says_so_and_serves_all_the_same() -> None:
    with serving(StubTarget(SCRIPTED)) as server:
        first = forwards(server)
        with session(server) as one:
            steps = play(one, PROMPT)
        assert [event for step in steps for event in step.events] == [NO_SHARED_MEMORY]
        assert (one.tokens, one.statistics.target_forwards) == (TEXT, first)


def test_the_memory_of_others_sends_nothing_more_to_the_device() -> None:
    """It gets the tokens of its own text, as it would without, and knows no node that it has not sent."""
    with serving(StubTarget(SCRIPTED), shared_memory=True) as server:
        down = []
        for _ in range(2):
            with session(server) as one:
                play(one, PROMPT)
                down.append(one.statistics.bytes_down)
        assert down[1] < down[0], "fewer verdicts, of the same tokens"


def test_each_turn_is_remembered_and_one_that_was_cut_short_up_to_there() -> None:
    with serving(StubTarget(SCRIPTED), shared_memory=True) as server:
        with session(server) as one:
            play(one, PROMPT)
            text = [*PROMPT, *one.tokens, 7, 8]
            one.append([7, 8], max_new_tokens=20)
            list(one)
            second = one.statistics.target_forwards
        with session(server) as other:
            play(other, text)
        assert other.tokens[:20] == SCRIPTED.continuation(text, 20)
        assert other.statistics.target_forwards < second


def test_a_poisoned_memory_costs_no_token() -> None:
    with serving(StubTarget(SCRIPTED), shared_memory=True) as server:
        rng = random.Random(1)
        memory = server._requests.opening.shared_memory
        assert memory is not None
        for _ in range(200):
            start = rng.randrange(len(TEXT))
            add_text(memory.of(""), [*PROMPT, *TEXT[:start], *(rng.randrange(50) for _ in range(12))])
        assert forwards(server) > 0


def test_what_a_tenant_may_fill_is_bounded_and_so_is_the_number_of_tenants() -> None:
    memory = SharedMemory(holder_bytes=1)
    index = memory.of("first")
    for start in range(0, 50_000, 1000):
        add_text(index, list(range(start, start + 1000)))
    assert len(index) == 1024
    add_text(memory.of("long"), list(range(2 * LONGEST_TEXT)))
    for number in range(MOST_HOLDERS - 2):
        memory.of(str(number))
    assert memory.of("first") is index
    memory.of("one more"), memory.of("and another")
    assert memory.of("first") is index and len(memory.of("long")) == 0


def test_of_a_turn_its_tokens_and_the_end_of_its_prompt_are_remembered() -> None:
    text = list(range(30))
    assert remembered_part(text, 20) == text[12:]
    assert remembered_part(text, 20, 25) == text[12:25]
    assert list(remembered_part(text, 20, 20)) == list(remembered_part(text, 30)) == []


def test_the_surer_guess_of_the_two_is_taken_and_learnt_from() -> None:
    shared = _native.TextIndex(1024, 2)
    add_text(shared, [1, 2, 3, 4, 5, 6])
    lookup = PromptLookup(shared=shared)
    lookup.read([9, 4, 8, 1, 2, 3, 4])
    assert [token for token, _ in lookup.guess([9, 4, 8, 1, 2, 3, 4])] == [5, 6]
    for start in range(100, 200):
        add_text(shared, [1, 2, start])
        lookup.read([9, 4, 8, 1, 2, 3, 4, *(token for i in range(100, start + 1) for token in (1, 2, 7, i))])
    assert lookup.guess([5, 1, 2])[0][0] == 7, "the text itself was right, and the others were not"


def test_strangers_texts_are_not_mixed() -> None:
    stranger = ServerSettings(shared_memory=True, security=ServerSecurity(insecure=True))
    with pytest.raises(EdgespecError, match="--tokens or --tls-client-ca"):
        shared_memory(stranger)
    assert shared_memory(ServerSettings()) is None


def test_a_mode_without_a_server_has_none_to_share_with() -> None:
    with pytest.raises(EdgespecError, match="leave --shared-memory out"):
        Remembering(shared_memory=True).options("device")
