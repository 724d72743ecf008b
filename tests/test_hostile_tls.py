"""Peers that break TLS at each point of its handshake and behind it: the server goes on, and keeps nothing of them."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import raw_peer
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubTarget, serving
from test_tls import TEXT, generate, needs_tls, server_security

from edgespec.server.private_authority import issue_for_server, make_authority
from edgespec.server.server import Server

pytestmark = needs_tls
MAX_WAIT_S = 20.0
ROUNDS = 20
MOST_GROWTH_BYTES = 8 << 20
"""Of 340 connections; OpenSSL's memory of one is some 30 KiB."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    make_authority(folder)
    issue_for_server(folder, ["localhost", "127.0.0.1"], 30)
    return folder


@pytest.fixture
def server(fleet: Path) -> Iterator[Server]:
    with serving(StubTarget(HashModel()), security=server_security(fleet)) as server:
        yield server


class Caller:
    """A TLS client whose bytes are sent by hand."""

    def __init__(self, port: int, authority: Path) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), MAX_WAIT_S)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=authority)
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def flight(self, stage: int) -> bytes:
        """What it would send next: 0, its first flight; 1, its second; 2, a HELLO of edgespec's in a record."""
        if stage == 2:
            self._tls.write(raw_peer.hello(VOCABULARY_HASH))
            return self._out.read()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                if data := self._out.read():
                    return data
                self._in.write(self.socket.recv(1 << 16))
            else:
                return self._out.read()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_left(self) -> bool:
        """Reads until the server closes; fails the test by a time-out where it does not."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        self.socket.close()
        return True


def reach(port: int, authority: Path, stage: int) -> tuple[Caller, bytes]:
    """A caller that has sent every flight before this one, and this one."""
    caller = Caller(port, authority)
    for earlier in range(stage):
        caller.socket.sendall(caller.flight(earlier))
    return caller, caller.flight(stage)


def break_off(port: int, authority: Path, stage: int, draw: random.Random) -> None:
    """Half a flight, then a reset, an end, or noise; and a whole flight with a bit turned."""
    for how in ("reset", "end"):
        caller, flight = reach(port, authority, stage)
        caller.socket.sendall(flight[: draw.randrange(len(flight))])
        if how == "reset":
            caller.reset()
        else:
            caller.socket.shutdown(socket.SHUT_WR)
            assert caller.is_left()
    caller, flight = reach(port, authority, stage)
    caller.socket.sendall(b"\x17\x03\x03\x00\x20" + draw.randbytes(32))  # a record of noise
    assert caller.is_left()
    caller, flight = reach(port, authority, stage)
    caller.socket.sendall(draw.randbytes(5) + flight)
    caller.socket.shutdown(socket.SHUT_WR)
    assert caller.is_left()
    if stage > 0:  # under the handshake's keys: one bit spoils it
        caller, flight = reach(port, authority, stage)
        caller.socket.sendall(flight[:-1] + bytes([flight[-1] ^ 1]))
        assert caller.is_left()
    caller, flight = reach(port, authority, stage)
    caller.socket.sendall(b"\x16\x03\x01\xff\xff" + flight)  # a record longer than any may be
    assert caller.is_left()


@pytest.mark.parametrize("stage", [0, 1, 2], ids=["first flight", "second flight", "first record"])
def test_a_handshake_that_breaks_off_harms_nobody(server: Server, fleet: Path, stage: int) -> None:
    break_off(server.port, fleet / "ca.pem", stage, random.Random(stage))
    assert generate(server, tls_ca=fleet / "ca.pem") == TEXT


def test_broken_handshakes_leave_no_memory_behind(server: Server, fleet: Path) -> None:
    draw, process = random.Random(7), psutil.Process()
    for turn in range(ROUNDS + 2):
        if turn == 2:  # what is made once has been made
            before = process.memory_info().rss
        for stage in range(3):
            break_off(server.port, fleet / "ca.pem", stage, draw)
    assert generate(server, tls_ca=fleet / "ca.pem") == TEXT
    assert process.memory_info().rss - before < MOST_GROWTH_BYTES
    assert server.listener.leased_bytes <= 4 * 16 * 1024  # of the honest session's own connections
