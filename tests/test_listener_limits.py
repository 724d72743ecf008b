"""The listener's limits, made small: who says too little, too much or too often is told so, and goes."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, closing

import pytest
import raw_peer
from links import HASH, WELCOME, event, has_ipv6, listening
from raw_peer import MAX_WAIT_S, RawPeer, append, frame, opening

from edgespec import _native
from edgespec.core.tree import COMMITTED_BIT

PROMPT = [1, 2, 3]
HELLO = raw_peer.hello(HASH)


def test_who_says_nothing_is_left() -> None:
    with (
        listening(hello_within_s=0.05) as listener,
        RawPeer(listener.port) as silent,
        RawPeer(listener.port) as slow,
    ):
        for byte in HELLO[:8]:
            slow.send(bytes([byte]))
        assert silent.closed() and slow.closed()


def test_a_frame_must_end() -> None:
    limits = {"frame_within_s": 0.05, "dead_after_s": 0.3, "hello_within_s": 60.0}
    with listening(**limits) as listener, RawPeer(listener.port, answers=False) as peer:
        peer.send(HELLO[:-1])
        error = peer.until(raw_peer.ERROR)
        assert error is not None and error.code == raw_peer.PROTOCOL
        assert b"not completed in time" in error.payload
        assert peer.closed()


def test_too_many_connections_of_an_address() -> None:
    with listening(connections_of_address=3) as listener, ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(listener.port)) for _ in range(3)]
        events = dict[int, object]()
        while len(events) < 3:
            events.update(listener.poll(MAX_WAIT_S))
        with RawPeer(listener.port) as fourth:
            error = fourth.until(raw_peer.ERROR)
            assert error is not None and (error.code, error.retryable) == (raw_peer.LIMIT, True)
            assert fourth.closed()
        peers[0].send(HELLO)
        assert any(isinstance(message, _native.Hello) for message in heard(listener, _native.Hello))


def test_too_many_connections_in_all() -> None:
    with (
        listening(connections=2) as listener,
        admitted(listener),
        admitted(listener),
        RawPeer(listener.port) as third,
    ):
        assert third.closed()


def test_who_has_not_said_who_it_is_gives_way_to_a_newcomer() -> None:
    for limits in ({"connections": 2}, {"strangers_of_address": 1}, {"strangers": 1}):
        with (
            listening(**limits) as listener,
            admitted(listener),
            RawPeer(listener.port) as silent,
            admitted(listener),
        ):
            assert silent.closed()


def test_an_address_that_connects_too_fast_is_closed_at_once() -> None:
    with (
        listening(arrivals=(0.0, 2.0)) as listener,
        admitted(listener),
        admitted(listener),
        RawPeer(listener.port) as third,
    ):
        assert third.closed()


@pytest.mark.skipif(not has_ipv6(), reason="needs a loopback of IPv6")
def test_an_ipv4_caller_of_an_ipv6_socket_is_known_by_its_ipv4_address() -> None:
    with closing(_native.Listener("::", 0)) as listener, RawPeer(listener.port):
        assert event(listener, _native.Connected).address == "127.0.0.1"


def test_a_flood_of_small_frames_is_read_no_faster_than_the_devices_share() -> None:
    with listening(device_frames=(0.0, 50.0)) as listener, admitted(listener, b"greedy") as greedy:
        greedy.send(opening(1, bytes(16), PROMPT), *(raw_peer.block(1, 2 + n, 0, [], []) for n in range(60)))
        assert len(taken(listener)) == 61  # what one read brought
        greedy.send(*(raw_peer.block(1, 62 + n, 0, [], []) for n in range(20)))
        with admitted(listener, b"other") as other:
            other.send(opening(1, secrets.token_bytes(16), PROMPT))
            assert [type(message) for message in taken(listener)] == [_native.Open]


def test_a_refused_frame_costs_its_device_more_than_one_that_is_taken() -> None:
    with listening(device_frames=(0.0, 50.0)) as listener, admitted(listener, b"greedy") as greedy:
        for channel in range(1, 4):
            greedy.send(frame(raw_peer.RESUME, secrets.token_bytes(16) + bytes(8), channel=channel))
            error = greedy.until(raw_peer.ERROR)
            assert error is not None and error.code == raw_peer.UNKNOWN_SESSION
        greedy.send(opening(4, bytes(16), PROMPT))
        with admitted(listener, b"other") as other:
            other.send(opening(1, bytes(16), PROMPT))
            assert [type(message) for message in taken(listener)] == [_native.Open]


def test_a_block_costs_its_device_more_the_more_nodes_it_has() -> None:
    def read(nodes: int) -> list[type]:
        """What is read behind five blocks that have `nodes` nodes each."""
        tokens, parents = [5] * nodes, [COMMITTED_BIT] * nodes
        with listening(device_frames=(0.0, 50.0)) as listener, admitted(listener, b"one") as peer:
            peer.send(opening(1, bytes(16), PROMPT))
            for n in range(5):
                peer.send(raw_peer.block(1, 2 + n, 1 + n * nodes, tokens, parents))
                taken(listener)
            peer.send(frame(raw_peer.CLOSE, bytes(8), channel=1, sequence=7))
            return [type(message) for message in taken(listener)]

    assert read(16) == [_native.Close]
    assert read(200) == []


def test_what_was_sent_before_the_welcome_counts_where_nobody_says_who_it_is() -> None:
    with listening(device_frames=(0.0, 50.0)) as listener, RawPeer(listener.port) as peer:
        peer.send(*[frame(raw_peer.PING, bytes(8))] * 30)
        welcome(listener, peer)
        peer.send(opening(1, bytes(16), PROMPT), *(raw_peer.block(1, 2 + n, 0, [], []) for n in range(30)))
        assert len(taken(listener)) == 31  # what one read brought
        peer.send(*(raw_peer.block(1, 32 + n, 0, [], []) for n in range(10)))
        assert taken(listener) == []


def test_a_device_that_sends_much_does_not_keep_others_waiting() -> None:
    with (
        listening() as listener,
        admitted(listener, b"greedy") as greedy,
        admitted(listener, b"other") as other,
    ):
        ping = raw_peer.frame(raw_peer.PING, bytes(8))
        greedy.send(opening(1, bytes(16), PROMPT))
        heard(listener, _native.Open)
        greedy.send(*(raw_peer.block(1, 2 + n, 0, [], []) for n in range(150)), ping)
        other.send(opening(1, secrets.token_bytes(16), PROMPT), ping)
        assert greedy.until(raw_peer.PONG) and other.until(raw_peer.PONG)  # all of it is there
        kinds = [type(message) for _, message in listener.poll(MAX_WAIT_S, 4)]
        assert _native.Open in kinds


def test_early_frames_keep_no_slab_and_only_so_many_bytes() -> None:
    """Frames that wait for one that never comes: their session ends when they are too large."""
    with listening(early_bytes=4096) as listener, admitted(listener, b"greedy") as greedy:
        greedy.send(opening(1, bytes(16), PROMPT))
        heard(listener, _native.Open)
        early = [raw_peer.block(1, 3 + n, 1, [7] * 20, [1 << 31] * 20) for n in range(10)]
        greedy.send(*early, raw_peer.frame(raw_peer.PING, bytes(8)))
        assert greedy.until(raw_peer.PONG) is not None
        assert listener.leased_bytes <= 16 * 1024
        greedy.send(raw_peer.frame(raw_peer.APPEND, bytes(16), channel=1, sequence=20))
        greedy.send(raw_peer.block(1, 21, 1, [7] * 400, [1 << 31] * 400))
        reasons = [message.reason for message in heard(listener, _native.Disconnected)]
        assert reasons == ["too much came before a frame that is missing"]


def test_a_link_without_room_notices_its_end() -> None:
    """Its device's share of the memory is used up by messages that nobody takes; then the peer goes."""
    with listening(slabs=2, dead_after_s=60.0) as listener, admitted(listener, b"greedy") as peer:
        peer.socket.settimeout(0.2)
        blocks = b"".join(raw_peer.block(1, 2 + n, 1 + n, [7], [1 << 31]) for n in range(20_000))
        with pytest.raises(TimeoutError):
            peer.socket.sendall(opening(1, bytes(16), PROMPT) + blocks * 8)
        peer.socket.close()
        reasons = [message.reason for message in heard(listener, _native.Away)]
        assert len(reasons) == 1


def taken(listener: _native.Listener) -> list[object]:
    """What comes until nothing more does for a while."""
    messages: list[object] = []
    while more := listener.poll(0.2):
        messages += [message for _, message in more]
    return messages


def test_sessions_are_not_opened_too_fast() -> None:
    with listening(opens=(0.0, 3.0)) as listener:
        with admitted(listener) as peer:
            for channel in range(1, 6):
                peer.send(opening(channel, secrets.token_bytes(16), PROMPT))
            errors = [peer.until(raw_peer.ERROR) for _ in range(2)]
            assert [(error.code, error.channel, error.retryable) for error in errors if error] == [
                (raw_peer.LIMIT, 4, True),
                (raw_peer.LIMIT, 5, True),
            ]
        with admitted(listener) as again:  # the address is remembered
            again.send(opening(1, secrets.token_bytes(16), PROMPT))
            error = again.until(raw_peer.ERROR)
            assert error is not None and error.code == raw_peer.LIMIT
        with admitted(listener, b"another device") as other:
            other.send(opening(1, secrets.token_bytes(16), PROMPT))
            assert heard(listener, _native.Open)


def test_a_channel_is_free_as_soon_as_its_session_is_closed() -> None:
    with listening() as listener, admitted(listener) as peer:
        closing = frame(raw_peer.CLOSE, bytes(8), channel=1, sequence=2)
        peer.send(
            opening(1, secrets.token_bytes(16), PROMPT),
            closing,
            opening(1, secrets.token_bytes(16), PROMPT),
        )
        kinds = list[type]()
        while kinds.count(_native.Open) < 2:
            events = listener.poll(MAX_WAIT_S)
            assert events, "the second session was not opened"
            kinds += [type(message) for _, message in events]
        assert kinds[:3] == [_native.Open, _native.Close, _native.Open]


def test_turns_do_not_follow_each_other_too_fast() -> None:
    with listening(turns=(0.0, 2.0)) as listener, admitted(listener) as peer:
        peer.send(opening(1, bytes(16), PROMPT), *(append(1, 2 + turn, 3, 0, 1 + turn) for turn in range(3)))
        error = peer.until(raw_peer.ERROR)
        assert error is not None and (error.code, error.channel) == (raw_peer.LIMIT, 1)
        reasons = [message.reason for message in heard(listener, _native.Disconnected)]
        assert reasons == ["its turns follow each other too fast"]


def test_a_flood_that_nobody_reads_takes_bounded_memory_and_harms_nobody() -> None:
    with listening(slabs=512) as listener:
        flood = frame(raw_peer.HINT, bytes(24), channel=1) * 1000
        with RawPeer(listener.port) as peer:
            peer.socket.settimeout(0.2)
            sent = 0
            with pytest.raises(TimeoutError):  # the server stops reading, so sending stops
                while sent < 1 << 28:
                    sent += peer.socket.send(flood)
            assert listener.leased_bytes <= 1 << 20
            with RawPeer(listener.port) as honest:
                honest.send(HELLO)
                assert heard(listener, _native.Hello)


def test_pings_that_nobody_reads_the_answers_of() -> None:
    with listening(dead_after_s=0.5) as listener:
        with RawPeer(listener.port) as peer:
            pings = frame(raw_peer.PING, bytes(8)) * 1000
            with pytest.raises((ConnectionError, TimeoutError)):
                for _ in range(1 << 14):
                    peer.socket.sendall(pings)
        reasons = [message.reason for message in heard(listener, _native.Disconnected)]
        assert reasons


def heard(listener: _native.Listener, kind: type) -> list[object]:
    """What comes, until something of that kind has."""
    while True:
        found = [message for _, message in listener.poll(MAX_WAIT_S) if isinstance(message, kind)]
        if found:
            return found


def admitted(listener: _native.Listener, identity: bytes = b"") -> RawPeer:
    """A peer that has been welcomed."""
    peer = RawPeer(listener.port)
    welcome(listener, peer, identity)
    return peer


def welcome(listener: _native.Listener, peer: RawPeer, identity: bytes = b"") -> None:
    peer.send(HELLO)
    number = None
    while number is None:
        number = next(
            (n for n, message in listener.poll(MAX_WAIT_S) if isinstance(message, _native.Hello)), None
        )
    listener.welcome(number, WELCOME, identity)
    answer = peer.until(raw_peer.WELCOME)
    assert answer is not None
