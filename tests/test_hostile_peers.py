"""Peers that break rules or want too much get their ERROR and go; an honest session beside them gets its text."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import raw_peer
from raw_peer import RawPeer, append, block, frame, hello, opening
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubTarget, StubTokenizer, serving

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.server.server import Server

SCRIPTED = HashModel()
PROMPT = [1, 2, 3]
ROOT = _native.COMMITTED_BIT
HELLO = hello(VOCABULARY_HASH)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as server:
        yield server


def text_of(port: int, count: int = 24) -> list[int]:
    params = SamplingParams(max_new_tokens=count)
    with Session(("127.0.0.1", port), None, params, mode="cloud", tokenizer=StubTokenizer()) as session:  # type: ignore[arg-type]
        session.prompt(PROMPT)
        for _ in session:
            pass
        return session.tokens


def expected(count: int = 24) -> list[int]:
    text = list(PROMPT)
    while len(text) < len(PROMPT) + count:
        text.append(SCRIPTED.target(text))
    return text[len(PROMPT) :]


def welcomed(port: int) -> RawPeer:
    peer = RawPeer(port)
    peer.send(HELLO)
    answer = peer.next()
    assert answer is not None and answer.kind == raw_peer.WELCOME
    return peer


BEFORE_WELCOME = {
    "another protocol": (b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n", raw_peer.PROTOCOL),
    "TLS where there is none": (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(48),
        raw_peer.PROTOCOL,
    ),
    "no magic": (frame(raw_peer.HELLO, bytes(48)), raw_peer.PROTOCOL),
    "a HELLO of 513 bytes": (hello(VOCABULARY_HASH, b"c" * 449), raw_peer.PROTOCOL),
    "a length of 4 GiB": (b"\xff\xff\xff\xff\x01\x00\x00\x00" + bytes(8), raw_peer.PROTOCOL),
    "a required type from the future": (frame(99), raw_peer.PROTOCOL),
    "versions of the future": (hello(VOCABULARY_HASH, versions=(2, 9)), raw_peer.VERSION),
    "another tokenizer": (hello(b"\1" * 32), raw_peer.VOCABULARY),
    "a session before HELLO": (opening(1, bytes(16), PROMPT), raw_peer.PROTOCOL),
    "RESUME before HELLO": (frame(raw_peer.RESUME, bytes(24), channel=1), raw_peer.PROTOCOL),
    "WELCOME from an edge": (frame(raw_peer.GOAWAY, bytes(8)), raw_peer.PROTOCOL),
}


@pytest.mark.parametrize("name", BEFORE_WELCOME)
def test_a_stranger_who_breaks_the_rules_is_told_so_and_goes(server: Server, name: str) -> None:
    said, code = BEFORE_WELCOME[name]
    with RawPeer(server.port) as peer:
        peer.send(said)
        error = peer.until(raw_peer.ERROR)
        assert error is not None and (error.code, error.channel, error.retryable) == (
            code,
            error.channel,
            False,
        )
        assert peer.closed()
    assert text_of(server.port) == expected()


AFTER_WELCOME = {
    "HELLO again": HELLO,
    "a frame over the agreed size": b"\xff\xff\x01\x00\x05\x00\x01\x00" + bytes(8),
    "a prompt over a mebibyte": b"\x01\x00\x10\x00\x03\x00\x01\x00" + bytes(8),
    "a session's frame on channel 0": frame(raw_peer.TUNE, bytes(16)),
    "an OPEN that is not the first": opening(1, bytes(16), PROMPT).replace(
        b"\1\0\0\0\0\0\0\0", b"\2\0\0\0\0\0\0\0", 1
    ),
    "an acknowledgement of what was never sent": opening(1, bytes(16), PROMPT)
    + frame(raw_peer.ACK, channel=1, acknowledge=1 << 30),
    "a node before its parent": opening(1, bytes(16), PROMPT) + block(1, 2, 5, [1, 2], [ROOT | 3, 6]),
    "nodes beyond 2^31": opening(1, bytes(16), PROMPT)
    + block(1, 2, (1 << 31) - 1, [1, 2], [ROOT | 3, ROOT | 3]),
    "an array longer than its frame": opening(1, bytes(16), PROMPT)
    + frame(raw_peer.BLOCK, b"\1\0\0\0\xff\xff\0\0" + bytes(32), channel=1, sequence=2),
    "frames far ahead of a missing one": opening(1, bytes(16), PROMPT)
    + b"".join(block(1, sequence, 0, [], []) for sequence in range(3, 300)),
    "a session too many": b"".join(
        opening(channel, secrets.token_bytes(16), PROMPT) for channel in range(1, 258)
    ),
}


@pytest.mark.parametrize("name", AFTER_WELCOME)
def test_a_guest_who_breaks_the_rules_is_told_so_and_goes(server: Server, name: str) -> None:
    with welcomed(server.port) as peer:
        peer.send(AFTER_WELCOME[name])
        error = peer.until(raw_peer.ERROR)
        while error is not None and error.channel != 0:
            error = peer.until(raw_peer.ERROR)
        assert error is not None and (error.code, error.retryable) == (raw_peer.PROTOCOL, False)
        assert peer.closed()
    assert text_of(server.port) == expected()


OF_A_SESSION = {
    "a temperature that is no number": (
        opening(1, bytes(16), PROMPT, temperature=float("nan")),
        raw_peer.PARAMETER,
    ),
    "a temperature beyond all scores": (opening(1, bytes(16), PROMPT, temperature=1e300), raw_peer.PARAMETER),
    "a temperature below all scores": (opening(1, bytes(16), PROMPT, temperature=5e-324), raw_peer.PARAMETER),
    "no tokens at all": (opening(1, bytes(16), PROMPT, max_new_tokens=0), raw_peer.PARAMETER),
    "more nodes than may wait": (
        opening(1, bytes(16), PROMPT) + block(1, 2, 1, [1] * 1025, [ROOT | 3] * 1025),
        raw_peer.PROTOCOL,
    ),
    "a token that is none": (opening(1, bytes(16), [1, 2, -5]), raw_peer.PARAMETER),
    "no prompt": (opening(1, bytes(16), []), raw_peer.CONTEXT),
    "a prompt over the context": (opening(1, bytes(16), [1] * 600), raw_peer.CONTEXT),
    "a node id used twice": (
        opening(1, bytes(16), PROMPT, fill=False)
        + block(1, 2, 5, [1], [ROOT | 3])
        + block(1, 3, 5, [1], [ROOT | 3]),
        raw_peer.PROTOCOL,
    ),
    "a turn behind more than there is": (
        opening(1, bytes(16), PROMPT) + append(1, 2, 5000, 4, 1),
        raw_peer.PROTOCOL,
    ),
    "a session that is another's or none": (
        frame(raw_peer.RESUME, bytes(24), channel=1),
        raw_peer.UNKNOWN_SESSION,
    ),
    "a block for no session": (block(1, 1, 1, [1], [ROOT | 3]), raw_peer.UNKNOWN_SESSION),
}


@pytest.mark.parametrize("name", OF_A_SESSION)
def test_what_is_wrong_with_a_session_ends_that_session_alone(server: Server, name: str) -> None:
    said, code = OF_A_SESSION[name]
    with welcomed(server.port) as peer:
        peer.send(said)
        error = peer.until(raw_peer.ERROR)
        assert error is not None and error.code == code
        peer.send(opening(2, secrets.token_bytes(16), PROMPT))
        verdict = peer.until(raw_peer.VERDICT)
        assert verdict is not None and verdict.channel == 2


def test_nodes_without_end_are_refused(server: Server) -> None:
    with welcomed(server.port) as peer:
        peer.send(opening(1, bytes(16), PROMPT, fill=False, max_new_tokens=1))
        for number in range(64):  # behind a node that never comes
            first = 1 + 64 * number
            peer.send(block(1, 2 + number, first, [1] * 64, [ROOT | 400] * 64))
        error = peer.until(raw_peer.ERROR)
        assert error is not None and error.code == raw_peer.PROTOCOL
