"""A client of an attack: one connection with one session, whose frames are not written by edgespec."""

from __future__ import annotations

import contextlib
import secrets
import sys
from typing import Any

from benchmarks.results import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import raw_peer

PONG = raw_peer.frame(raw_peer.PONG, bytes(16))


class Client:
    """A connection with one session on channel 1. hello: nothing, for a stranger; otherwise it is welcomed before it
    acts, as a frame that comes before the WELCOME ends the connection. Raises OSError when it is not. address: of this
    machine, from which it calls."""

    def __init__(self, port: int, hello: bytes, address: str) -> None:
        peer = raw_peer.RawPeer(port, source=address)
        self.socket = peer.socket
        self.number = 0  # of acts
        self.node, self.sequence = 1, 2
        self.rest = b""
        if hello:
            peer.send(hello)
            answer = peer.until(raw_peer.WELCOME, raw_peer.ERROR)
            if answer is None or answer.kind == raw_peer.ERROR:
                self.socket.close()
                raise ConnectionRefusedError("not welcomed")
        self.socket.setblocking(False)

    def send(self, *frames: bytes) -> None:
        """What the server does not take at once goes out later, in front of what comes then."""
        self.rest += b"".join(frames)
        with contextlib.suppress(BlockingIOError):
            while self.rest:
                self.rest = self.rest[self.socket.send(self.rest) :]

    def read(self) -> None:
        """Raises OSError when the server has closed. Whatever came, a PONG answers it: PINGs are among it."""
        came = False
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(1 << 16):
                came = True
            raise ConnectionResetError("the server has closed")
        if came and not self.rest:
            self.send(PONG)

    def numbered(self, count: int = 1) -> range:
        first, self.sequence = self.sequence, self.sequence + count
        return range(first, self.sequence)


def opening(client: Client, tokens: list[int], max_new_tokens: int = 1500, **fields: Any) -> None:
    """fields: of `raw_peer.opening`. The text goes on behind an end token."""
    fields["ignore_end"] = True
    client.send(raw_peer.opening(1, secrets.token_bytes(16), tokens, max_new_tokens=max_new_tokens, **fields))


def leave(client: Client | None) -> None:
    """Its session ends too: one that only lost its connections would keep its memory from those of the next round."""
    if client is not None:
        with contextlib.suppress(OSError):
            client.send(raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=1, sequence=client.numbered()[0]))
        client.socket.close()
