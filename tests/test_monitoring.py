"""The metrics port: a connection that dribbles its request keeps nobody out."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from stubs import StubTarget, serving

from edgespec.server.metrics import Metrics
from edgespec.server.monitoring import MOST_ASKING, MOST_READERS, monitoring

PAGES: Any = SimpleNamespace(used=1, count=2, reclaimable=0, size=16)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(StubTarget()) as server, monitoring(server, Metrics(), PAGES, ("127.0.0.1", 0)) as port:
        yield port


def health(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
        return str(answer.read().decode())


def ended(peer: socket.socket) -> bool:
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_newcomer_takes_the_place_of_the_oldest_whose_request_has_not_come(port: int) -> None:
    with ExitStack() as crowd:
        dribbling = []
        for _ in range(MOST_READERS + 1):
            peer = crowd.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            peer.sendall(b"GET /hea")
            dribbling.append(peer)
        assert health(port) == "ok\n"
        assert all(ended(peer) for peer in dribbling[: MOST_READERS + 2 - MOST_ASKING])
        dribbling[-1].sendall(b"lth HTTP/1.0\r\n\r\n")
        assert dribbling[-1].recv(12) == b"HTTP/1.0 200", "the newest are waited for"


@pytest.mark.parametrize(
    "begun", [b"GET /hea", b"POST /where HTTP/1.0\r\nContent-Length: 999\r\n\r\n{"], ids=str
)
def test_a_byte_now_and_then_does_not_keep_a_connection(
    port: int, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgespec.server.monitoring.ASKING_S", 0.1)
    end_s = time.monotonic() + 30
    with socket.create_connection(("127.0.0.1", port), 0.05) as peer:
        peer.sendall(begun)
        while time.monotonic() < end_s:
            try:
                peer.sendall(b"a")
                assert ended(peer)
            except TimeoutError:
                continue  # nothing has come: the connection stands
            except OSError:
                pass
            break
        else:
            pytest.fail("the connection was kept")
    assert health(port) == "ok\n"


def test_an_address_that_asks_without_pause_is_answered_at_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.server.monitoring.REQUESTS_AT_ONCE", 3)
    monkeypatch.setattr("edgespec.server.monitoring.REQUESTS_PER_S", 0.0)
    with serving(StubTarget()) as server, monitoring(server, Metrics(), PAGES, ("127.0.0.1", 0)) as port:
        assert [health(port) for _ in range(3)] == ["ok\n"] * 3
        with pytest.raises(OSError):
            health(port)
        with socket.create_connection(("127.0.0.1", port), 30, source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.0 200"
