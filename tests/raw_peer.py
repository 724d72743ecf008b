"""A peer that says what it likes: a plain socket, and frames written from docs/wire-format.md, not by edgespec."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

MAX_WAIT_S = 20.0

HELLO, WELCOME, OPEN, APPEND, BLOCK, HINT, VERDICT, ACK = range(1, 9)
RESUME, CLOSE, PING, PONG, GOAWAY, ERROR, TUNE = range(9, 16)
PROTOCOL, VERSION, VOCABULARY, CREDENTIAL, CONTEXT, PARAMETER, UNKNOWN_SESSION = range(1, 8)
OVERLOADED, INTERNAL, LIMIT, DRAINING, UNKNOWN_PICTURE = range(8, 13)


class Frame(NamedTuple):
    kind: int
    channel: int
    sequence: int
    acknowledge: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of an ERROR."""
        assert self.kind == ERROR
        return int.from_bytes(self.payload[:2], "little")

    @property
    def retryable(self) -> bool:
        assert self.kind == ERROR
        return self.payload[2] == 1


def frame(
    kind: int,
    payload: bytes = b"",
    *,
    channel: int = 0,
    sequence: int = 0,
    acknowledge: int = 0,
    flags: int = 0,
) -> bytes:
    header = struct.pack("<IBBHII", len(payload), kind, flags, channel, sequence, acknowledge)
    return header + payload + bytes(-len(payload) % 8)


def hello(vocabulary_hash: bytes, credential: bytes = b"", versions: tuple[int, int] = (1, 1)) -> bytes:
    fixed = b"EDGS" + struct.pack("<HHIHH", *versions, 0, 0, len(credential))
    return frame(HELLO, fixed + vocabulary_hash + credential)


def opening(
    channel: int,
    session_id: bytes,
    tokens: list[int],
    *,
    max_new_tokens: int = 4,
    temperature: float = 0.0,
    repetition_penalty: float = 1.0,
    fill: bool = True,
    needs_server_draft: bool = False,
    latency_us: int = 0,
    sampling: bytes = b"",
    ignore_end: bool = False,
    biases: Sequence[tuple[int, float]] = (),
) -> bytes:
    """sampling: of the section that holds further parameters. biases: (token, bias)."""
    payload = session_id + struct.pack("<ddddQ", temperature, 1.0, 0.0, repetition_penalty, 7)
    payload += struct.pack(
        "<IIIfIIIIHHI",
        0,
        max_new_tokens,
        int(fill) | 32 * int(needs_server_draft),
        0.5,
        0,
        0,
        len(tokens),
        len(biases),
        int(bool(sampling)),
        2 * int(ignore_end),
        latency_us,
    )
    payload += struct.pack(f"<{len(tokens)}i", *tokens)
    payload += b"".join(struct.pack("<if", *bias) for bias in biases)
    if sampling:
        payload += bytes(-len(payload) % 8) + struct.pack("<HHI", 1, 0, len(sampling)) + sampling
    return frame(OPEN, payload, channel=channel, sequence=1)


def block(channel: int, sequence: int, first_node: int, tokens: list[int], parents: list[int]) -> bytes:
    count = len(tokens)
    payload = struct.pack(
        f"<IHH{count}i{count}I{count}B", first_node, count, 0, *tokens, *parents, *[255] * count
    )
    return frame(BLOCK, payload, channel=channel, sequence=sequence)


def read_block(data: bytes) -> tuple[int, tuple[int, ...], tuple[int, ...], bytes]:
    """first_node, tokens, parents and probabilities of a whole BLOCK."""
    length, kind, *_ = struct.unpack_from("<IBBHII", data)
    first_node, count, _ = struct.unpack_from("<IHH", data, 16)
    arrays_end = 24 + 8 * count
    if kind != BLOCK or len(data) != 16 + length + -length % 8 or arrays_end + count > 16 + length:
        raise ValueError("this is not a BLOCK")
    values = struct.unpack_from(f"<{count}i{count}I", data, 24)
    return first_node, values[:count], values[count:], data[arrays_end : arrays_end + count]


def append(
    channel: int, sequence: int, keep_length: int, max_new_tokens: int, turn: int, tokens: Sequence[int] = ()
) -> bytes:
    payload = struct.pack("<IIIHH", keep_length, max_new_tokens, len(tokens), turn, 0)
    payload += struct.pack(f"<{len(tokens)}i", *tokens)
    return frame(APPEND, payload, channel=channel, sequence=sequence)


class RawPeer:
    """Calls a port of this machine. A context manager. answers: PINGs, while it reads. source: the address from which
    it calls."""

    def __init__(self, port: int, answers: bool = True, source: str = "127.0.0.1") -> None:
        self.answers = answers
        self.socket = socket.create_connection(("127.0.0.1", port), MAX_WAIT_S, (source, 0))
        self.socket.settimeout(MAX_WAIT_S)
        self._received = b""

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def next(self) -> Frame | None:
        """The next frame but PINGs; None: the other side has closed."""
        while True:
            while (received := self._parse()) is None:
                try:
                    more = self.socket.recv(1 << 16)
                except ConnectionResetError:
                    more = b""
                if not more:
                    return None
                self._received += more
            if received.kind != PING:
                return received
            if self.answers:
                self.send(frame(PONG, received.payload[:8] + bytes(8)))

    def until(self, *kinds: int) -> Frame | None:
        """The next frame of these kinds; None: the other side has closed."""
        while (received := self.next()) is not None and received.kind not in kinds:
            pass
        return received

    def closed(self) -> bool:
        """Reads to the end; fails the test by a time-out where there is none."""
        while self.next() is not None:
            pass
        return True

    def _parse(self) -> Frame | None:
        if len(self._received) < 16:
            return None
        length, kind, _, channel, sequence, acknowledge = struct.unpack("<IBBHII", self._received[:16])
        end = 16 + length + -length % 8
        if len(self._received) < end:
            return None
        payload, self._received = self._received[16 : 16 + length], self._received[end:]
        return Frame(kind, channel, sequence, acknowledge, payload)
