"""Strangers at the API's port: how many connections they may hold, and for how long without a request."""

from __future__ import annotations

import http.client
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, open_api
from stubs import StubTarget

from edgespec.api.connections import (
    MOST_CONNECTIONS,
    OTHER_FILES,
    SESSION_FILES,
    Connections,
    listen,
)
from edgespec.core.descriptors import LEAST

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY = b'{"prompt": "HI", "max_tokens": 2, "temperature": 0}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def connected(url: str, address: str = "127.0.0.1") -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30, source_address=(address, 0))


def health(url: str, address: str) -> int:
    connection = http.client.HTTPConnection(
        url.removeprefix("http://"), timeout=30, source_address=(address, 0)
    )
    connection.request("GET", "/health")
    status = connection.getresponse().status
    connection.close()
    return status


def ended(peer: socket.socket) -> bool:
    """Whether the server has ended the connection; waits for it."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def test_addresses_share_the_connections_and_a_newcomer_always_finds_one() -> None:
    connections, held = Connections(256), []
    for number in range(4):
        held.append(0)
        while connections.enter(f"10.0.0.{number}"):
            held[-1] += 1
    assert held == [192, 48, 12, 3]
    connections.leave("10.0.0.0")
    assert len(connections) == sum(held) - 1
    assert connections.enter("10.0.0.0") is False, "it would leave too little"
    assert connections.enter("10.0.0.9")


def test_a_crowd_of_silent_connections_leaves_the_api_to_others() -> None:
    connections = Connections(16)
    with open_api(connections=connections) as (url, _), ExitStack() as crowd:
        for _ in range(12):
            crowd.enter_context(connected(url))
        with connected(url) as another:
            assert ended(another)
        assert health(url, "127.0.0.2") == 200
        crowd.close()
        until(lambda: len(connections) == 0)
        assert health(url, "127.0.0.1") == 200


@pytest.fixture(
    params=[b"", b"GET /health HT", HEAD + b"Content-Length: 9\r\n\r\n{"], ids=["silent", "head", "body"]
)
def begun(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    monkeypatch.setattr("edgespec.api.http_server.HEAD_S", 0.1)
    monkeypatch.setattr("edgespec.api.http_server.BODY_S", 0.1)
    yield request.param


def test_a_request_that_does_not_come_in_full_ends_its_connection(begun: bytes) -> None:
    connections = Connections(16)
    with open_api(connections=connections) as (url, _):
        with connected(url) as peer:
            peer.sendall(begun)
            assert ended(peer)
        until(lambda: len(connections) == 0)


def test_a_byte_now_and_then_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.api.http_server.HEAD_S", 0.1)
    with open_api() as (url, _), connected(url) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: peer.recv(4096).endswith(b'{"status":"ok"}'))
        peer.sendall(b"GET /")
        peer.settimeout(0.01)

        def cut() -> bool:
            try:
                peer.sendall(b"a")
                return ended(peer)
            except TimeoutError:
                return False
            except OSError:
                return True

        until(cut)


def test_a_text_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.api.http_server.HEAD_S", 0.05)
    monkeypatch.setattr("edgespec.api.http_server.BODY_S", 0.05)
    go, late = threading.Event(), threading.Event()
    monkeypatch.setattr("edgespec.api.http_server.TimedProtocol._late", _noting(late))

    def hold() -> None:
        assert go.wait(30)

    with open_api(StubTarget(MODEL, before_forward=hold)) as (url, _), connected(url) as peer:
        peer.sendall(WHOLE + WHOLE[:20])  # the next request has begun: its time-out passes meanwhile
        assert late.wait(30)
        go.set()
        assert peer.recv(12) == b"HTTP/1.1 200"


def _noting(noted: threading.Event) -> Callable[..., None]:
    from edgespec.api.http_server import TimedProtocol

    late = TimedProtocol._late

    def note(protocol: TimedProtocol, timeout_s: float) -> None:
        late(protocol, timeout_s)
        noted.set()

    return note


def test_a_client_that_takes_no_answer_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.api.http_server.STALLED_S", 0.1)
    connections = Connections(16)
    with (
        open_api(connections=connections, send_buffer_bytes=4096) as (url, _),
        socket.socket() as peer,
    ):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        host, _, port = url.removeprefix("http://").partition(":")
        peer.connect((host, int(port)))
        peer.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        until(lambda: len(connections) == 1)
        until(lambda: len(connections) == 0)


@pytest.mark.parametrize(
    ("limits", "most", "raised"),
    [
        ((1024, 1 << 20), MOST_CONNECTIONS, MOST_CONNECTIONS + OTHER_FILES + 24 * SESSION_FILES),
        ((1024, 1024), 1024 - OTHER_FILES - 24 * SESSION_FILES, 1024),
        ((64, 64), LEAST, 64),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), MOST_CONNECTIONS, None),
    ],
    ids=str,
)
def test_connections_leave_descriptors_to_sessions_and_files(
    limits: tuple[int, int], most: int, raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: set_to.append(wanted))
    with listen("127.0.0.1", 0, sessions=24) as listening:
        assert listening._connections._most == most
    assert raised is None or set_to[-1] == (raised, limits[1])
