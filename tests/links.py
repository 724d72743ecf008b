"""Both ends of a link on loopback, with a session open between them, and the frames that tests send over it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from wire_frames import CASES, HASH, VERDICT

from edgespec import _native
from edgespec._native import COMMITTED_BIT, FinishReason, Listener, ResilientConnection

HOST = "127.0.0.1"
HELLO = _native.encode_hello(vocabulary_hash=HASH, agent="test")
WELCOME_FIELDS: dict[str, Any] = CASES["welcome"].fields | {"hosts_draft": False, "shared_memory": False}
WELCOME = _native.encode_welcome(**WELCOME_FIELDS)
MAX_WAIT_S = 20.0  # before a test gives up; nothing passes by waiting for it
SESSIONS = itertools.count(1)


def has_ipv6() -> bool:
    """Whether this machine has a loopback of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def block(token: int) -> bytes:
    tokens, parents = np.array([token], dtype=np.int32), np.array([COMMITTED_BIT], dtype=np.uint32)
    return _native.encode_block(1, 1, tokens, parents, np.array([200], dtype=np.uint8))


def verdict(tokens: Any, base_length: int = 1) -> bytes:
    fields = {"tokens": np.asarray(tokens, dtype=np.int32), "logprobs": None, "finish": FinishReason.NONE}
    return _native.encode_verdict(1, **{**VERDICT, **fields, "base_length": base_length})


def opening(tokens: Any) -> bytes:
    """An OPEN under a new session id."""
    session_id = next(SESSIONS).to_bytes(16, "little")
    return CASES["open"].encoded(
        session_id=session_id, tokens=np.asarray(tokens, dtype=np.int32), logit_bias=[], sampling=b""
    )


def events(listener: Listener, count: int) -> list[tuple[int, Any]]:
    """The next `count` events."""
    happened: list[tuple[int, Any]] = []
    while len(happened) < count:
        more = listener.poll(MAX_WAIT_S, count - len(happened))
        assert more, f"{len(happened)} of {count} events came"
        happened += more
    return happened


def event(listener: Listener, kind: type) -> Any:
    """The next event, which is of this kind."""
    [(_, what)] = events(listener, 1)
    assert isinstance(what, kind), what
    return what


def ended(listener: Listener) -> list[str]:
    """The reasons that a session is away and that its connection is gone, which are the next events."""
    return [event(listener, _native.Away).reason, event(listener, _native.Disconnected).reason]


@contextmanager
def listening(**options: Any) -> Iterator[Listener]:
    with closing(Listener(HOST, 0, **options)) as listener:
        yield listener


def connect(listener: Listener, **options: Any) -> tuple[ResilientConnection, int]:
    """A welcomed connection and the server's number for it."""
    link = ResilientConnection([(HOST, listener.port)], HELLO, hedge=False, **options)
    (number, _), (_, hello) = events(listener, 2)
    assert isinstance(hello, _native.Hello)
    assert listener.welcome(number, WELCOME, b"")
    assert isinstance(link.receive(MAX_WAIT_S), _native.Welcome)
    return link, number


def open_session(listener: Listener, **options: Any) -> tuple[ResilientConnection, int]:
    """An open session and the server's number for it."""
    link, _ = connect(listener, **options)
    link.open(opening([1, 2, 3, 4]))
    [(session, opened)] = events(listener, 1)
    assert isinstance(opened, _native.Open)
    return link, session


@contextmanager
def linked(busy_spin: bool = False) -> Iterator[tuple[ResilientConnection, Listener, int]]:
    """An open session at both ends, and the server's number for it."""
    with listening(busy_spin=busy_spin) as listener:
        link, session = open_session(listener, busy_spin=busy_spin)
        with closing(link):
            yield link, listener, session


def answer(link: ResilientConnection) -> list[int]:
    """The tokens of the next message, which is a verdict."""
    message = link.receive(MAX_WAIT_S)
    assert isinstance(message, _native.Verdict), message
    return message.tokens.tolist()
