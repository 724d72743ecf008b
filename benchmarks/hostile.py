"""Clients that break the rules, at a given rate: a process of benchmarks/load.py. Who is thrown out comes back."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.results import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import raw_peer

CHANNELS = 200


class Hostile:
    """One client; `act` does its next mischief, and raises OSError when the server has closed the connection."""

    def __init__(self, port: int, kind: str, vocabulary_hash: bytes) -> None:
        self.connections = 0
        self._port = port
        self._greets = kind in ("oversized", "half-frames", "cancel-storm")
        self._act: Callable[[], None] = getattr(self, f"_{kind.replace('-', '_')}")
        self._hello = raw_peer.hello(vocabulary_hash)
        self._socket: socket.socket | None = None
        self._ids = itertools.count(1)
        self._step = 0

    def act(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 1.0)
            self._socket.setblocking(False)
            self.connections += 1
            self._step = 0
            if self._greets:
                self._socket.send(self._hello)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(1 << 16):
                pass
            raise ConnectionResetError("the server has closed")
        with contextlib.suppress(BlockingIOError):  # the server does not read: so be it
            self._act()
        self._step += 1

    def leave(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.send(data)

    def _silent(self) -> None:
        """Says nothing, not even HELLO."""

    def _oversized(self) -> None:
        """A frame of four gigabytes."""
        self._send(b"\xff\xff\xff\xff\x05\x00\x01\x00" + bytes(8))

    def _half_frames(self) -> None:
        """A block of 60 KiB that never ends, eight bytes at a time."""
        self._send(bytes(8) if self._step else b"\x00\xf0\x00\x00\x05\x00\x01\x00")

    def _slow_loris(self) -> None:
        """HELLO, a byte at a time, without its end."""
        at = min(self._step, len(self._hello) - 2)
        self._send(self._hello[at : at + 1])

    def _strangers(self) -> None:
        """HELLO for another vocabulary, again and again."""
        self.leave() if self._step else self._send(raw_peer.hello(bytes(32)))

    def _cancel_storm(self) -> None:
        """Opens a session with a prompt and ends it before it can be served."""
        channel = self._step % CHANNELS + 1
        name = next(self._ids).to_bytes(16, "little")
        opened = raw_peer.opening(channel, name, [1] * 64, max_new_tokens=400)
        self._send(opened + raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=channel, sequence=2))


KINDS = ("oversized", "half-frames", "silent", "slow-loris", "strangers", "cancel-storm")


def attack(
    pipe: Connection, port: int, vocabulary_hash: bytes, kinds: list[str], count: int, rate: float
) -> None:
    """A process: `count` clients, the kinds in turn, act `rate` times a second together. It says that it is ready, is
    sent until when, and sends the numbers of acts and connections at the end."""
    clients = [Hostile(port, kinds[i % len(kinds)], vocabulary_hash) for i in range(count)]
    pipe.send("ready")
    until_s = pipe.recv()
    pause_s, now_s, acts = count / rate, time.monotonic(), 0
    due = [(now_s + pause_s * i / count, i) for i in range(count)]
    while due[0][0] < until_s:
        at_s, i = heapq.heappop(due)
        time.sleep(max(0.0, at_s - time.monotonic()))
        try:
            clients[i].act()
            acts += 1
        except OSError:
            clients[i].leave()
        heapq.heappush(due, (max(at_s + pause_s, time.monotonic() - 1.0), i))
    pipe.send((acts, sum(client.connections for client in clients)))
