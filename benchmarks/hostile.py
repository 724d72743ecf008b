"""Clients that break the rules, at a given rate: a process of benchmarks/attack.py.

Each has one way of its own: frames of four gigabytes, frames that end in the middle, silence before HELLO, a HELLO of a
byte at a time, tokens that are none, sessions opened and closed without end. Whoever is thrown out comes back.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import raw_peer

CHANNELS = 200


class Hostile:
    """One client; `act` does its next mischief, and raises OSError where it has been thrown out."""

    def __init__(self, port: int, kind: str, hello: bytes, vocabulary_hash: bytes) -> None:
        self.kind = kind
        self._port = port
        self._hello = hello
        self._stranger = raw_peer.hello(vocabulary_hash, b"no token of this server's is like this one")
        self._ids = itertools.count(1)
        self._acts: dict[str, Callable[[], None]] = {
            "oversized": self._oversized,
            "half frames": self._half,
            "silent": lambda: None,
            "slow loris": self._loris,
            "wrong tokens": self._knock,
            "cancel storm": self._cancel,
        }
        self.connections = 0
        self.socket: socket.socket | None = None

    def act(self) -> None:
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self._port), 1.0)
            self.socket.setblocking(False)
            self.connections += 1
            self._at = 0
            self._channel = 0
            if self.kind in ("half frames", "cancel storm", "oversized"):
                self.socket.send(self._hello)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(1 << 16):
                pass
            raise ConnectionResetError("the server has closed")
        with contextlib.suppress(BlockingIOError):  # it does not read: so be it
            self._acts[self.kind]()

    def leave(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def _send(self, data: bytes) -> None:
        assert self.socket is not None
        self.socket.send(data)

    def _oversized(self) -> None:
        self._send(b"\xff\xff\xff\xff\x05\x00\x01\x00" + bytes(8))

    def _half(self) -> None:
        """A block of 60 KiB that never ends, eight bytes at a time."""
        self._send(b"\x00\xf0\x00\x00\x05\x00\x01\x00" if self._at == 0 else bytes(8))
        self._at += 1

    def _loris(self) -> None:
        self._send(self._hello[self._at : self._at + 1])
        self._at = min(self._at + 1, len(self._hello) - 2)

    def _knock(self) -> None:
        if self._at:
            self.leave()
            return
        self._send(self._stranger)
        self._at = 1

    def _cancel(self) -> None:
        """Opens a session with a prompt and ends it before it can be served."""
        self._channel = self._channel % CHANNELS + 1
        opened = raw_peer.opening(
            self._channel, next(self._ids).to_bytes(16, "little"), [1] * 64, max_new_tokens=400
        )
        self._send(opened + raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=self._channel, sequence=2))


KINDS = ("oversized", "half frames", "silent", "slow loris", "wrong tokens", "cancel storm")


def attack(pipe: Connection, port: int, hellos: list[bytes], vocabulary_hash: bytes, rate: float) -> None:
    """For so many seconds as the pipe says, each time it does; answers with what was done, by kind."""
    while seconds := pipe.recv():
        clients = [
            Hostile(port, KINDS[i % len(KINDS)], hello, vocabulary_hash) for i, hello in enumerate(hellos)
        ]
        pause_s, start_s = len(clients) / rate, time.monotonic()
        due = [(start_s + pause_s * i / len(clients), i) for i in range(len(clients))]
        done: Counter[str] = Counter()
        while due[0][0] < start_s + seconds:
            at_s, i = heapq.heappop(due)
            time.sleep(max(0.0, at_s - time.monotonic()))
            try:
                clients[i].act()
                done[clients[i].kind] += 1
            except OSError:
                clients[i].leave()
            heapq.heappush(due, (max(at_s + pause_s, time.monotonic() - 1.0), i))
        for client in clients:
            client.leave()
        pipe.send((dict(done), sum(client.connections for client in clients)))
