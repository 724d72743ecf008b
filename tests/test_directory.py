"""Sessions that ask a directory where they may run: at the start, after a loss, when a server goes away or is full."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from broken_links import PROMPT, QUICK, RIGHT, SCRIPTED, TOKENS, another_target, events, generate, mortal
from directories import Answer, StubDirectory, directory, place_of, refusal
from faults import FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.core.where import Question
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.server.server import Server


def asking(
    where: StubDirectory | str, link: LinkOptions = QUICK, mode: str = "sync", **options: Any
) -> Session:
    url = where if isinstance(where, str) else where.url
    return stub_session(
        scripted=SCRIPTED, directory=url, link=link, mode=mode, max_new_tokens=TOKENS, **options
    )


def text(one: Session, *happens: Any) -> list[Step]:
    one.prompt(PROMPT)
    return generate(one, 10, *happens)


def full_server(stack: ExitStack) -> Server:
    """One whose only session is another's."""
    full = stack.enter_context(serving(StubTarget(SCRIPTED), max_sessions=1))
    holds = stack.enter_context(stub_session(full.port, scripted=SCRIPTED, mode="sync"))
    holds.prompt(PROMPT)
    holds.step()
    return full


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with serving(StubTarget(SCRIPTED)) as first, serving(StubTarget(SCRIPTED)) as second:
        yield first, second


def test_a_session_runs_where_the_directory_says(servers: tuple[Server, Server]) -> None:
    with directory(lambda _: place_of(servers[1])) as where, asking(where) as one:
        text(one)
        assert one.tokens == RIGHT and len(servers[1].sessions.table) == 1 and not servers[0].sessions.table
    assert len(where.questions) == 1 and where.questions[0].model is None


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream", "auto"])
def test_a_server_that_dies_is_replaced_by_the_one_that_the_directory_names_next(
    servers: tuple[Server, Server], mode: str
) -> None:
    with mortal(5) as first:
        answers = iter([place_of(first)])
        with (
            directory(lambda _: next(answers, place_of(servers[1]))) as where,
            asking(where, mode=mode) as one,
        ):
            steps = text(one)
    assert one.tokens == RIGHT
    assert f"re-opened at 127.0.0.1:{servers[1].port}" in events(steps)
    assert {question.session for question in where.questions} == {where.questions[0].session}
    assert where.questions[1].model == "stub"


def test_a_session_leaves_a_draining_server_for_the_one_named_next(servers: tuple[Server, Server]) -> None:
    answers = iter([place_of(servers[0])])
    with directory(lambda _: next(answers, place_of(servers[1]))) as where, asking(where) as one:
        steps = text(one, lambda: servers[0].drain(30))
    assert one.tokens == RIGHT
    assert f"re-opened at 127.0.0.1:{servers[1].port}" in events(steps)


def test_a_session_that_is_refused_for_want_of_room_goes_where_there_is_some() -> None:
    with ExitStack() as stack:
        full = full_server(stack)
        roomy = stack.enter_context(serving(StubTarget(SCRIPTED)))
        answers = iter([place_of(full)])
        where = stack.enter_context(directory(lambda _: next(answers, place_of(roomy))))
        one = stack.enter_context(asking(where))
        steps = text(one)
    assert one.tokens == RIGHT and "the server is full" in events(steps)


def test_where_every_server_is_full_the_refusal_is_raised_in_time() -> None:
    with ExitStack() as stack:
        full = full_server(stack)
        where = stack.enter_context(directory(lambda _: place_of(full)))
        one = stack.enter_context(asking(where, link=LinkOptions(give_up_s=0.3)))
        with pytest.raises(EdgespecError, match="the server is full"):
            text(one)


def test_a_session_that_was_refused_asks_under_another_name_for_routers_that_hash() -> None:
    with ExitStack() as stack:
        full = full_server(stack)
        roomy = stack.enter_context(serving(StubTarget(SCRIPTED)))
        first: list[str] = []

        def hashed(question: Question) -> Answer:
            first.append(question.session)
            return place_of(full if question.session == first[0] else roomy)

        one = stack.enter_context(asking(stack.enter_context(directory(hashed))))
        text(one)
    assert one.tokens == RIGHT


def test_a_session_that_lost_its_link_asks_under_the_name_that_found_its_server(
    servers: tuple[Server, Server],
) -> None:
    def hashed(question: Question) -> Answer:
        return place_of(servers["." in question.session], address=f"127.0.0.1:{proxy.port}")

    with FaultProxy(servers[0].port) as proxy, directory(hashed) as where, asking(where) as one:
        steps = text(one, proxy.cut)
    assert one.tokens == RIGHT and "re-opened" not in events(steps)
    assert {question.session for question in where.questions} == {where.questions[0].session}


LIES: dict[str, Any] = {
    "another target": lambda server: place_of(server, target_id="other"),
    "no address": lambda server: place_of(server, address="nowhere:0:x"),
    "no JSON": lambda server: (200, {}, b"<html>"),
    "a long answer": lambda server: (200, {}, b"{" + b" " * 5000 + b"}"),
    "a server that is none": lambda server: place_of(server, address="127.0.0.1:9"),
    "an error": lambda server: refusal(500, "broken"),
    "a redirect": lambda server: (302, {"Location": "http://127.0.0.1:9/where"}, b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_directory_says_wrongly_costs_no_text(servers: tuple[Server, Server], lie: str) -> None:
    with mortal(5) as first:
        told = iter([place_of(first), LIES[lie](servers[1])])
        with directory(lambda _: next(told, place_of(servers[1]))) as where, asking(where) as one:
            steps = text(one)
    assert one.tokens == RIGHT and f"re-opened at 127.0.0.1:{servers[1].port}" in events(steps)


def test_a_place_with_other_weights_is_left_again_and_none_of_its_tokens_taken(
    servers: tuple[Server, Server],
) -> None:
    with serving(another_target()) as other, mortal(5) as first:
        told = iter([place_of(first), place_of(other, target_id="stub")])
        with directory(lambda _: next(told, place_of(servers[1]))) as where, asking(where) as one:
            steps = text(one)
    assert one.tokens == RIGHT and "serves other" in events(steps)


def test_a_server_with_other_weights_is_not_asked_for_text_while_the_directory_takes_its_time(
    servers: tuple[Server, Server],
) -> None:
    """The link comes back to it, for want of another; neither that nor a repeated answer makes it begin the session."""
    there_again = threading.Event()

    def met() -> int:
        if proxy.connections == 2:
            there_again.set()
        return other.port

    def answer(question: Question) -> Answer:
        if len(where.questions) == 1:
            return place_of(first)
        if len(where.questions) in (2, 4):
            return place_of(other, address=f"127.0.0.1:{proxy.port}", target_id="stub")
        if len(where.questions) == 3:
            there_again.wait(10)
            return refusal(503, "this server is full", Retry_After="0")
        return place_of(servers[1])

    with serving(another_target()) as other, mortal(5) as first, FaultProxy(other.port) as proxy:
        proxy.choose = met
        with directory(answer) as where, asking(where) as one:
            steps = text(one)
            assert not other.sessions.table and proxy.connections < 10
    assert one.tokens == RIGHT and events(steps).count("serves other") == 1


def test_a_directory_that_is_gone_leaves_the_text_with_its_server(servers: tuple[Server, Server]) -> None:
    with FaultProxy(servers[0].port) as proxy:
        with directory(lambda _: place_of(servers[0], address=f"127.0.0.1:{proxy.port}")) as where:
            one = asking(where)
        with one:
            steps = text(one, proxy.cut)
    assert one.tokens == RIGHT and "re-opened" not in events(steps)


def test_a_slow_directory_delays_no_text(servers: tuple[Server, Server]) -> None:
    asked_again, go_on = threading.Event(), threading.Event()

    def answer(question: Question) -> Answer:
        if question.model is not None:
            asked_again.set()
            go_on.wait(30)
        return place_of(servers[0], address=f"127.0.0.1:{proxy.port}")

    with FaultProxy(servers[0].port) as proxy, directory(answer) as where, asking(where) as one:
        text(one, proxy.cut)
        assert one.tokens == RIGHT and asked_again.wait(10)
        go_on.set()


def test_at_the_start_a_full_fleet_is_waited_for(servers: tuple[Server, Server]) -> None:
    answers = iter([refusal(503, "this server is full", Retry_After="0")])
    with directory(lambda _: next(answers, place_of(servers[0]))) as where, asking(where) as one:
        text(one)
    assert one.tokens == RIGHT and len({question.session for question in where.questions}) == 2


def test_at_the_start_a_silent_server_leaves_time_for_the_one_named_next(
    servers: tuple[Server, Server],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        answers = iter([place_of(servers[0], address=address)])
        with (
            directory(lambda _: next(answers, place_of(servers[1]))) as where,
            asking(where, link=LinkOptions(timeout_s=3.0)) as one,
        ):
            text(one)
    assert one.tokens == RIGHT


def test_at_the_start_a_server_that_is_being_stopped_is_left_for_the_one_named_next(
    servers: tuple[Server, Server],
) -> None:
    with stub_session(servers[0].port, scripted=SCRIPTED, mode="sync") as holds:
        holds.prompt(PROMPT)
        holds.step()
        servers[0].drain(30)
        answers = iter([place_of(servers[0])])
        with directory(lambda _: next(answers, place_of(servers[1]))) as where, asking(where) as one:
            text(one)
    assert one.tokens == RIGHT


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            lambda: refusal(503, "this server is full", Retry_After="60"),
            "names no server .this server is full",
        ),
        (lambda: refusal(401, "no such token", Retry_After="60"), "no such token"),
        (lambda: (200, {}, b"[]"), "no JSON object"),
    ],
)
def test_a_directory_that_names_no_server_is_said_in_a_sentence(told: Any, sentence: str) -> None:
    with (
        directory(lambda _: told()) as where,
        pytest.raises(EdgespecError, match=sentence) as caught,
    ):
        asking(where, link=LinkOptions(timeout_s=0.3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["fleet.example", "ftp://fleet", "http://", "http://me:secret@fleet"])
def test_what_is_no_directorys_address_is_refused(url: str) -> None:
    with pytest.raises(EdgespecError, match="no directory's address"):
        Directory(url)


def test_a_directory_and_servers_are_not_both_given() -> None:
    with pytest.raises(EdgespecError, match="one of the two"):
        stub_session(7000, scripted=HashModel(), directory="http://127.0.0.1:9")


def test_a_token_goes_to_the_directory_and_never_in_the_clear_to_others(
    servers: tuple[Server, Server],
) -> None:
    with directory(lambda _: place_of(servers[0])) as where:
        Directory(where.url, token="sesame\n").ask(Question("a"))
    assert where.headers["Authorization"] == "Bearer sesame"
    with pytest.raises(EdgespecError, match="in the clear"):
        Directory("http://fleet.example", token="sesame")
