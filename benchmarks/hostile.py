"""Clients that break the rules, at a given rate: a process of benchmarks/load.py. Who is thrown out comes back."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.results import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import raw_peer

Mischief = Callable[[bytes, int], bytes]
"""HELLO and the number of the act since the client connected -> what it sends."""


def _cancel(hello: bytes, act: int) -> bytes:
    channel = act % 200 + 1
    opened = raw_peer.opening(channel, time.time_ns().to_bytes(16, "little"), [1] * 64, max_new_tokens=400)
    return opened + raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=channel, sequence=2)


KINDS: dict[str, Mischief] = {
    "oversized": lambda hello, act: b"\xff\xff\xff\xff\x05\x00\x01\x00" + bytes(8),
    "half-frames": lambda hello, act: b"\x00\xf0\x00\x00\x05\x00\x01\x00" if act == 0 else bytes(8),
    "silent": lambda hello, act: b"",
    "slow-loris": lambda hello, act: hello[act : act + 1] if act < len(hello) - 1 else b"",
    "strangers": lambda hello, act: raw_peer.hello(bytes(32)),
    "cancel-storm": _cancel,
}
"""A frame of 4 GiB; a block that never ends, eight bytes at a time; nothing, not even HELLO; HELLO a byte at a time;
HELLO for another vocabulary; sessions that are opened with a prompt and closed before they can be served."""

GREET = ("oversized", "half-frames", "cancel-storm")


class Hostile:
    """One client; `act` does its next mischief, and raises OSError when the server has closed the connection."""

    def __init__(self, port: int, kind: str, vocabulary_hash: bytes) -> None:
        self.connections = 0
        self._port = port
        self._kind = kind
        self._hello = raw_peer.hello(vocabulary_hash)
        self._socket: socket.socket | None = None
        self._acts = itertools.count()

    def act(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 1.0)
            self._socket.setblocking(False)
            self._acts = itertools.count()
            self.connections += 1
            if self._kind in GREET:
                self._socket.send(self._hello)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(1 << 16):
                pass
            raise ConnectionResetError("the server has closed")
        with contextlib.suppress(BlockingIOError):  # the server does not read: so be it
            self._socket.send(KINDS[self._kind](self._hello, next(self._acts)))

    def leave(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def attack(
    pipe: Connection, port: int, vocabulary_hash: bytes, kinds: list[str], count: int, rate: float
) -> None:
    """A process: `count` clients, the kinds in turn, act `rate` times a second together. It says that it is ready, is
    sent until when, and sends the numbers of acts and connections at the end."""
    clients = [Hostile(port, kinds[i % len(kinds)], vocabulary_hash) for i in range(count)]
    pipe.send("ready")
    until_s, due_s, acts = pipe.recv(), time.monotonic(), 0
    for client in itertools.cycle(clients):
        time.sleep(max(0.0, due_s - time.monotonic()))
        if time.monotonic() >= until_s:
            break
        due_s = max(due_s + 1 / rate, time.monotonic() - 1.0)
        try:
            client.act()
            acts += 1
        except OSError:
            client.leave()
    pipe.send((acts, sum(client.connections for client in clients)))
