"""What a listener sent and nobody acknowledged, on a connection that resumes the session: all of it, in order, once."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator

import pytest
import raw_peer
from raw_peer import ACK, ERROR, RESUME, UNKNOWN_SESSION, VERDICT, Frame, RawPeer, frame, hello, opening
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubTarget, serving

from edgespec.server.server import Server

CHANNEL, TOKENS = 3, 6


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(StubTarget(HashModel())) as server:
        yield server


def welcomed(server: Server) -> RawPeer:
    peer = RawPeer(server.port)
    peer.send(hello(VOCABULARY_HASH))
    answer = peer.next()
    assert answer is not None and answer.kind == raw_peer.WELCOME
    return peer


def verdicts(peer: RawPeer, last: int) -> list[Frame]:
    """Those that come, up to the one of that number."""
    found: list[Frame] = []
    while not found or found[-1].sequence < last:
        received = peer.until(VERDICT)
        assert received is not None
        found.append(received)
    return found


def resumed(server: Server, session_id: bytes, last_sequence: int) -> tuple[RawPeer, Frame]:
    peer = welcomed(server)
    peer.send(frame(RESUME, session_id + struct.pack("<II", last_sequence, 0), channel=CHANNEL))
    answer = peer.until(RESUME, ERROR)
    assert answer is not None
    return peer, answer


def generated(server: Server) -> tuple[bytes, list[Frame]]:
    """A text whose verdicts were read and never acknowledged, on a connection that is gone."""
    session_id = secrets.token_bytes(16)
    with welcomed(server) as peer:
        peer.send(opening(CHANNEL, session_id, [1, 2, 3], max_new_tokens=TOKENS))
        return session_id, verdicts(peer, TOKENS)


def test_what_was_not_acknowledged_comes_again_in_order_and_once(server: Server) -> None:
    session_id, first = generated(server)
    assert [one.sequence for one in first] == list(range(1, TOKENS + 1))
    peer, answer = resumed(server, session_id, last_sequence=2)
    with peer:
        assert struct.unpack_from("<I", answer.payload, 16) == (1,)  # the server has the OPEN
        again = verdicts(peer, TOKENS)
        peer.send(frame(raw_peer.PING, bytes(8)))
        follows = peer.until(VERDICT, raw_peer.PONG)
    assert [(one.sequence, one.payload) for one in again] == [
        (one.sequence, one.payload) for one in first[2:]
    ]
    assert follows is not None and follows.kind == raw_peer.PONG


def test_what_was_acknowledged_never_comes_again(server: Server) -> None:
    session_id, _ = generated(server)
    peer, _ = resumed(server, session_id, last_sequence=0)
    with peer:
        verdicts(peer, TOKENS)
        peer.send(frame(ACK, channel=CHANNEL, acknowledge=4), frame(raw_peer.PING, bytes(8)))
        assert peer.until(raw_peer.PONG) is not None
    peer, _ = resumed(server, session_id, last_sequence=0)
    with peer:
        assert [one.sequence for one in verdicts(peer, TOKENS)] == [5, 6]


def test_an_open_that_is_said_again_is_answered_with_all_that_followed(server: Server) -> None:
    session_id, first = generated(server)
    with welcomed(server) as peer:
        peer.send(opening(CHANNEL, session_id, [1, 2, 3], max_new_tokens=TOKENS))
        assert [one.payload for one in verdicts(peer, TOKENS)] == [one.payload for one in first]


def test_a_session_that_there_is_not_is_refused(server: Server) -> None:
    generated(server)
    peer, answer = resumed(server, secrets.token_bytes(16), last_sequence=0)
    with peer:
        assert answer.kind == ERROR and answer.code == UNKNOWN_SESSION
