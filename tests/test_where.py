"""`POST /where` of a server: its address and load, or why no session may come."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from scripted_models import HashModel
from stubs import StubTarget, serving, stub_session

from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.where import MOST_BYTES, Place, Question, may_be_read
from edgespec.edge.directory import Directory
from edgespec.edge.session import Session
from edgespec.server import where
from edgespec.server.metrics import Metrics
from edgespec.server.monitoring import monitoring
from edgespec.server.server import Server
from edgespec.server.where import NOT_ADVERTISED, Advertised, WhereAnswers

SCRIPTED = HashModel()
PAGES: Any = SimpleNamespace(count=100, used=25, reclaimable=0)


@contextmanager
def answering(
    advertised: Advertised = NOT_ADVERTISED, pages: Any = None, **options: Any
) -> Iterator[tuple[Server, str]]:
    with (
        serving(StubTarget(SCRIPTED), **options) as server,
        monitoring(server, Metrics(), pages or PAGES, ("127.0.0.1", 0), advertised) as port,
    ):
        yield server, f"http://127.0.0.1:{port}"


def post(url: str, body: bytes) -> tuple[int, dict[str, Any], str | None]:
    try:
        with urllib.request.urlopen(f"{url}/where", body, timeout=10) as answer:
            return 200, json.load(answer), None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers.get("Retry-After")


def test_a_server_names_its_own_address_target_and_load() -> None:
    with answering(max_sessions=4) as (server, url), stub_session(server.port, scripted=SCRIPTED) as one:
        one.prompt([1, 2])
        one.step()
        place = Directory(url).ask(Question("a", "stub"))
        assert place == Place(Address("127.0.0.1", server.port), "stub", 0.25)


def test_the_advertised_address_and_name_are_told_in_its_place() -> None:
    with answering(Advertised("cloud.example:9", "fleet.example")) as (_, url):
        status, fields, _ = post(url, Question("a").to_json())
    assert status == 200
    assert (fields["address"], fields["tls_name"]) == ("cloud.example:9", "fleet.example")


@contextmanager
def held_in_a_forward() -> Iterator[tuple[Server, Session, Callable[[], None]]]:
    """A server whose loop runs a forward of this session until the last of the three is called."""
    running, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        running.set()
        assert go_on.wait(30)

    with (
        serving(StubTarget(SCRIPTED, before_forward=hold)) as server,
        stub_session(server.port, scripted=SCRIPTED) as one,
    ):
        one.prompt([1, 2])
        assert running.wait(10)
        yield server, one, go_on.set


def test_a_draining_server_sends_nobody_to_itself() -> None:
    with (
        held_in_a_forward() as (server, one, go_on),
        monitoring(server, Metrics(), PAGES, ("127.0.0.1", 0)) as port,
    ):
        server.drain(30)
        status, fields, retry = post(f"http://127.0.0.1:{port}", Question("a").to_json())
        go_on()
        list(one)
    assert (status, fields, retry) == (503, {"error": "this server is being stopped"}, "1")


def test_a_full_server_says_when_to_ask_again() -> None:
    with answering(max_sessions=1) as (server, url), stub_session(server.port, scripted=SCRIPTED) as one:
        one.prompt([1, 2])
        one.step()
        assert post(url, Question("a").to_json()) == (503, {"error": "this server is full"}, "1")
    with answering(pages=SimpleNamespace(count=100, used=100, reclaimable=0)) as (server, url):
        by_time = time.monotonic() + 30  # the loop may be late with its first answer
        while (answer := post(url, Question("a").to_json()))[0] == 200 and time.monotonic() < by_time:
            pass
        assert answer == (503, {"error": "this server is full"}, "1")


def test_a_busy_loop_is_asked_once_however_many_questions_come_and_only_the_first_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, "LOOP_TIMEOUT_S", 30.0)
    with held_in_a_forward() as (server, one, go_on), ThreadPoolExecutor(1) as pool:
        answers = WhereAnswers(server, PAGES, NOT_ADVERTISED)
        first = pool.submit(answers, Question("first").to_json())
        while not server._calls.qsize():
            pass
        assert [answers(Question(str(i)).to_json())[0] for i in range(20)] == [200] * 20
        assert server._calls.qsize() == 1 and not first.done()
        go_on()
        assert first.result(30)[0] == 200
        list(one)
        by_time = time.monotonic() + 30  # then the loop answers, and is asked anew
        while Place.from_json(answers(Question("a").to_json())[2]).load < 0.25 and time.monotonic() < by_time:
            pass
        assert Place.from_json(answers(Question("a").to_json())[2]).load >= 0.25


@pytest.mark.parametrize(("fresh_s", "looks"), [(1e9, 1), (0.0, 20)])
def test_a_figure_of_the_loop_serves_for_a_while(
    monkeypatch: pytest.MonkeyPatch, fresh_s: float, looks: int
) -> None:
    monkeypatch.setattr(where, "FRESH_S", fresh_s)
    monkeypatch.setattr(where, "LOOP_TIMEOUT_S", 30.0)
    with serving(StubTarget(SCRIPTED)) as server:
        asked = Mock(wraps=server.call)
        monkeypatch.setattr(server, "call", asked)
        answers = WhereAnswers(server, PAGES, NOT_ADVERTISED)
        assert [answers(Question(str(i)).to_json())[0] for i in range(20)] == [200] * 20
    assert asked.call_count == looks


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"[]", 400, "no JSON object"),
        (b"{", 400, "not JSON"),
        (b'{"session": 7}', 400, "`session` must be a string"),
        (Question("a", "other@1").to_json(), 404, "serves stub, not other@1"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_a_sentence(
    body: bytes, status: int, sentence: str
) -> None:
    with answering() as (_, url):
        code, fields, _ = post(url, body)
    assert code == status and sentence in fields["error"]


def test_a_server_that_listens_everywhere_must_be_told_its_address() -> None:
    assert Advertised().address("0.0.0.0", 7433) is None
    assert Advertised("cloud.example").address("0.0.0.0", 7433) == ("cloud.example", 7433)
    with pytest.raises(EdgespecError, match="not an address"):
        Advertised("cloud.example:x").address("0.0.0.0", 7433)


def test_many_devices_may_ask_at_once() -> None:
    with answering() as (_, url), ThreadPoolExecutor(8) as pool:
        ask = Directory(url).ask
        places = list(pool.map(lambda number: ask(Question(str(number))), range(200)))
    assert len(places) == 200 and len({place.address for place in places}) == 1


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("0", True),
        (str(MOST_BYTES), True),
        (str(MOST_BYTES + 1), False),
        *((header, False) for header in (None, "", "-5", "+5", "5 ", "five")),
    ],
)
def test_a_question_is_read_only_if_it_says_that_it_is_short(header: str | None, read: bool) -> None:
    assert may_be_read(header) is read


def test_the_api_beside_a_server_passes_questions_on() -> None:
    pytest.importorskip("starlette")
    from starlette.applications import Starlette

    from edgespec.api.where_route import where_route

    async def ask(url: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """As a web server calls the route."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": "POST", "path": "/where", "headers": headers, "query_string": b""}
        await Starlette(routes=[where_route(url)])(scope, receive, send)
        names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], sent[1]["body"], names

    question = Question("a").to_json()
    with answering() as (server, url):
        status, body, _ = asyncio.run(ask(f"{url}/where", question))
        assert (status, Place.from_json(body).address.port) == (200, server.port)
    status, _, headers = asyncio.run(ask("http://127.0.0.1:9/where", question))
    assert (status, headers["retry-after"]) == (503, "1")
    assert asyncio.run(ask("http://127.0.0.1:9/where", b" " * 5000))[0] == 413
