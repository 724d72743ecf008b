"""Sockets on loopback: delivery, lifetimes of views, back-pressure, dead peers, hostile peers, event loops, exits."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest

from edgespec import _native
from edgespec._native import COMMITTED_BIT, Connection, Disconnected, FinishReason, Listener
from edgespec.core.server_options import ServerOptions

HASH = bytes(range(32))
HELLO = _native.encode_hello(vocabulary_hash=HASH, agent="test")
WELCOME = _native.encode_welcome(
    version=1,
    features=0,
    vocabulary_hash=HASH,
    context_length=2048,
    vocabulary_size=4096,
    layers=12,
    exit_layers=[4],
    end_tokens=[0],
    target_id="test",
    max_frame_bytes=65536,
    max_block_nodes=1024,
)
SLAB_BYTES = 16 * 1024
PIECE_BYTES = 512
MAX_WAIT_S = 20.0  # before a test gives up; nothing passes by waiting for it


def block(token: int, channel: int = 1) -> bytes:
    return _native.encode_block(
        channel,
        1,
        np.array([token], dtype=np.int32),
        np.array([COMMITTED_BIT], dtype=np.uint32),
        np.array([200], dtype=np.uint8),
    )


def verdict(tokens: Any, channel: int = 1) -> bytes:
    return _native.encode_verdict(
        channel=channel,
        base_length=1,
        tokens=np.asarray(tokens, dtype=np.int32),
        logprobs=None,
        finish=FinishReason.NONE,
        forwards=1,
        rows=0,
        forward_us=1,
        clock_us=1,
        turn=0,
    )


def opening(tokens: Any) -> bytes:
    return _native.encode_open(
        1,
        session_id=bytes(16),
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        repetition_penalty=1.0,
        seed=1,
        max_new_tokens=1,
        logprobs=False,
        ignore_eos=False,
        options=ServerOptions().to_wire(),
        logit_bias=[],
        tokens=np.asarray(tokens, dtype=np.int32),
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


@contextmanager
def listening(**options: Any) -> Iterator[Listener]:
    with closing(Listener("127.0.0.1", 0, **options)) as listener:
        yield listener


def connect(listener: Listener, **options: Any) -> tuple[Connection, int]:
    """A welcomed connection and the server's number for it."""
    connection = Connection("127.0.0.1", listener.port, MAX_WAIT_S, **options)
    connection.send(HELLO)
    (number, _), (_, hello) = events(listener, 2)
    assert isinstance(hello, _native.Hello)
    assert listener.send(number, WELCOME)
    assert isinstance(connection.receive(MAX_WAIT_S), _native.Welcome)
    return connection, number


@contextmanager
def linked(busy_spin: bool = False, **options: Any) -> Iterator[tuple[Connection, Listener, int]]:
    with listening(busy_spin=busy_spin) as listener:
        connection, number = connect(listener, busy_spin=busy_spin, **options)
        with closing(connection):
            yield connection, listener, number


class RawPeer:
    """A peer that says whatever bytes the test gives it, and reads frames one by one."""

    def __init__(self, listener: Listener) -> None:
        self.socket = socket.create_connection(("127.0.0.1", listener.port), MAX_WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def frame(self, kind: int) -> tuple[int, int, bytes]:
        """The next frame of this type: channel, acknowledge, payload."""
        while True:
            payload_bytes, found, _, channel, _, acknowledge = struct.unpack("<IBBHII", self.read(16))
            payload = self.read(payload_bytes + -payload_bytes % 8)[:payload_bytes]
            if found == kind:
                return channel, acknowledge, payload


def numbered(frame: bytes, sequence: int) -> bytes:
    return frame[:8] + struct.pack("<I", sequence) + frame[12:]


class TestDelivery:
    def test_frames_come_in_order_both_ways(self) -> None:
        with linked() as (connection, listener, number):
            for token in range(500):
                connection.send(block(token))
            assert [what.tokens[0] for _, what in events(listener, 500)] == list(range(500))
            for token in range(500):
                assert listener.send(number, verdict([token]))
            received = [connection.receive(MAX_WAIT_S) for _ in range(500)]
            assert [message.tokens[0] for message in received] == list(range(500))  # type: ignore[union-attr]

    def test_a_server_that_never_sleeps_serves_as_well_and_ends(self) -> None:
        with listening(busy_spin=True) as listener:
            connection, number = connect(listener)
            with closing(connection):
                connection.send(block(7))
                assert event(listener, _native.Block).tokens[0] == 7
                assert listener.send(number, verdict([8]))
                answer = connection.receive(MAX_WAIT_S)
                assert isinstance(answer, _native.Verdict) and answer.tokens[0] == 8

    def test_a_prompt_of_a_mebibyte(self) -> None:
        tokens = np.arange((2**20 - 96) // 4, dtype=np.int32)
        with linked() as (connection, listener, _):
            connection.send(opening(tokens))
            opened = event(listener, _native.Open)
            assert np.array_equal(opened.tokens, tokens)
            assert opened.tokens.__array_interface__["data"][0] % 8 == 0

    @pytest.mark.parametrize("chunk", [1, 7, 24, 10_000])
    def test_bytes_may_come_in_any_pieces(self, chunk: int) -> None:
        stream = HELLO + b"".join(numbered(block(token), token + 1) for token in range(20))
        with listening() as listener, RawPeer(listener) as peer:
            for start in range(0, len(stream), chunk):
                peer.socket.sendall(stream[start : start + chunk])
            _, (_, hello), *blocks = events(listener, 22)
            assert hello.agent == "test"
            assert [what.tokens[0] for _, what in blocks] == list(range(20))

    def test_a_repeat_is_dropped_and_acknowledged(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(HELLO + numbered(block(5), 1) + numbered(block(5), 1) + numbered(block(6), 2))
            _, _, (_, first), (_, second) = events(listener, 4)
            assert [first.tokens[0], second.tokens[0]] == [5, 6]
            acknowledged = 0
            while acknowledged < 2:
                channel, acknowledged, payload = peer.frame(8)
                assert (channel, payload) == (1, b"")

    def test_an_unknown_optional_frame_is_passed_over(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(struct.pack("<IBBHII", 3, 200, 1, 9, 0, 0) + b"new\0\0\0\0\0" + HELLO)
            assert isinstance(events(listener, 2)[1][1], _native.Hello)

    def test_pings_are_answered_before_any_hello(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(struct.pack("<IBBHIIQ", 8, 11, 0, 0, 0, 0, 0x1122334455667788))
            channel, _, payload = peer.frame(12)
            assert channel == 0
            assert payload[:8] == struct.pack("<Q", 0x1122334455667788)
            assert len(payload) == 16

    def test_round_trip_and_bytes_are_counted(self) -> None:
        with linked() as (connection, listener, _):
            assert connection.rtt_ms is not None  # the PONG came before the WELCOME
            assert 0 < connection.rtt_ms < MAX_WAIT_S * 1e3
            connection.send(block(7))
            event(listener, _native.Block)  # written after the HELLO was, and was counted
            assert connection.bytes_sent >= len(HELLO)
            assert connection.bytes_received >= len(WELCOME)

    def test_a_listener_knows_the_round_trip_of_a_session(self) -> None:
        with (
            listening() as listener,
            closing(Connection("127.0.0.1", listener.port, MAX_WAIT_S)) as connection,
        ):
            connection.send(HELLO)
            (number, _), _ = events(listener, 2)
            listener.welcome(number, WELCOME, b"")
            assert isinstance(connection.receive(MAX_WAIT_S), _native.Welcome)
            connection.send(opening([1]))
            [(session, opened)] = events(listener, 1)
            assert isinstance(opened, _native.Open)
            assert 0 < (listener.rtt_ms(session) or 0.0) < MAX_WAIT_S * 1e3  # its PONG came before the OPEN
            assert listener.rtt_ms(number) is None

    def test_many_connections(self) -> None:
        with listening() as listener:
            peers = [connect(listener) for _ in range(64)]
            assert listener.leased_bytes <= 64 * 2 * PIECE_BYTES  # who says little waits with little
            for token, (_, number) in enumerate(peers):
                assert listener.send(number, verdict([token]))
            for token, (connection, _) in enumerate(peers):
                message = connection.receive(MAX_WAIT_S)
                assert isinstance(message, _native.Verdict)
                assert message.tokens.tolist() == [token]
                connection.close()
            gone = events(listener, 64)
            assert {number for number, _ in gone} == {number for _, number in peers}
            assert all(isinstance(what, Disconnected) for _, what in gone)


class TestLifetimes:
    def test_messages_of_one_read_view_one_buffer(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            frames = [numbered(block(token), token + 1) for token in range(3)]
            peer.socket.sendall(HELLO + b"".join(frames))
            addresses = [what.tokens.__array_interface__["data"][0] for _, what in events(listener, 5)[2:]]
            assert [address - addresses[0] for address in addresses] == [
                0,
                len(frames[0]),
                2 * len(frames[0]),
            ]
            assert (addresses[0] - 24) % 8 == 0  # a frame begins at a multiple of 8

    def test_a_view_outlives_its_message_connection_and_listener(self) -> None:
        with linked() as (connection, listener, _):
            connection.send(block(41))
            tokens = event(listener, _native.Block).tokens
            connection.close()
            event(listener, Disconnected)
            listener.close()
            gc.collect()
            assert listener.leased_bytes == PIECE_BYTES  # what the view rests on, and nothing else
            assert tokens.tolist() == [41]
            tokens = None
            gc.collect()
            assert listener.leased_bytes == 0

    def test_a_view_survives_everything_native(self) -> None:
        with linked() as (connection, listener, number):
            listener.send(number, verdict(range(100)))
            message = connection.receive(MAX_WAIT_S)
            assert isinstance(message, _native.Verdict)
            tokens = message.tokens
        del connection, listener, message
        gc.collect()
        assert tokens.tolist() == list(range(100))

    def test_dlpack_and_the_buffer_protocol_share_the_receive_buffer(self) -> None:
        with linked() as (connection, listener, _):
            connection.send(block(41))
            tokens = event(listener, _native.Block).tokens
            address = tokens.__array_interface__["data"][0]
            shared = np.from_dlpack(tokens)
            raw = memoryview(tokens)
            assert shared.__array_interface__["data"] == (address, True)  # and read-only
            assert raw.readonly
            tokens = None
            connection.close()
            event(listener, Disconnected)
            listener.close()
            gc.collect()
            assert listener.leased_bytes == PIECE_BYTES  # they keep what they rest on
            assert (shared.tolist(), raw.tolist()) == ([41], [41])
            shared = None
            raw.release()
            raw = None  # type: ignore[assignment]
            gc.collect()
            assert listener.leased_bytes == 0

    def test_back_pressure_instead_of_memory(self) -> None:
        with linked(slabs=2) as (connection, listener, number):
            for token in range(50):
                listener.send(number, verdict([token] * 1000))
            held = []
            while (message := connection.receive(0.3)) is not None:
                held.append(message)
            assert len(held) < 50
            assert connection.leased_bytes <= 2 * SLAB_BYTES + PIECE_BYTES  # what a connection waits with
            tokens = [int(message.tokens[0]) for message in held]  # type: ignore[union-attr]
            held.clear()
            message = None
            while len(tokens) < 50:
                message = connection.receive(MAX_WAIT_S)
                assert isinstance(message, _native.Verdict)
                tokens.append(int(message.tokens[0]))
            assert tokens == list(range(50))
            assert connection.leased_bytes <= 2 * SLAB_BYTES + PIECE_BYTES  # what a connection waits with

    def test_frames_larger_than_a_slab_are_bounded_too(self) -> None:
        prompt = opening(np.arange(200_000, dtype=np.int32))
        with listening(slabs=8) as listener, closing(connect(listener)[0]) as connection:
            for _ in range(4):
                connection.send(prompt)
            for _ in range(4):
                opened = event(listener, _native.Open)
                assert opened.tokens[-1] == 199_999
                assert listener.leased_bytes <= 8 * SLAB_BYTES + 2**20 + 16  # room for one such prompt
                opened = None

    def test_a_peer_that_does_not_read_is_dropped(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(HELLO)
            number = events(listener, 2)[0][0]
            happened: list[tuple[int, Any]] = []
            while not happened:
                listener.send(number, verdict(np.zeros(60_000, dtype=np.int32)))
                happened = listener.poll(0.001)
            assert "reads too slowly" in happened[0][1].reason


class TestBatches:
    """poll_batch: the blocks of many sessions in one structured array."""

    def batches(self, listener: Listener, blocks: int) -> Iterator[_native.Batch]:
        """Batches, until `blocks` blocks have come."""
        seen = 0
        while seen < blocks:
            batch = listener.poll_batch(MAX_WAIT_S)
            seen += len(batch.numbers)
            yield batch

    def test_nodes_of_all_sessions_lie_in_one_array(self) -> None:
        with listening() as listener:
            links = [connect(listener) for _ in range(3)]
            expected = {}
            for size, (connection, number) in enumerate(links):
                tokens = np.arange(size, dtype=np.int32) + 10 * number
                parents = np.arange(size, dtype=np.uint32) | COMMITTED_BIT
                probabilities = np.arange(size, dtype=np.uint8)
                connection.send(_native.encode_block(1, 5, tokens, parents, probabilities))
                rows = zip(tokens.tolist(), parents.tolist(), probabilities.tolist(), strict=True)
                expected[number] = (5, list(rows))
            received = {}
            for batch in self.batches(listener, 3):
                assert batch.nodes.dtype.names == ("token", "parent", "probability")
                bounds = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
                of_block = [batch.nodes[start:end].tolist() for start, end in bounds]
                blocks = zip(batch.first_nodes.tolist(), of_block, strict=True)
                received.update(zip(batch.numbers.tolist(), blocks, strict=True))
            assert received == expected

    def test_what_came_between_blocks_stays_between_them(self) -> None:
        with linked() as (connection, listener, number):
            for token in range(3):
                connection.send(block(token))
            connection.send(_native.encode_close(1, FinishReason.STOP))
            for token in range(3, 6):
                connection.send(block(token))
            order: list[Any] = []
            for batch in self.batches(listener, 6):
                order += [type(message) for _, message in batch.others]
                order += batch.nodes["token"].tolist()
                assert set(batch.numbers.tolist()) <= {number}
            assert order == [0, 1, 2, _native.Close, 3, 4, 5]

    def test_it_holds_nothing_of_the_receive_buffer(self) -> None:
        with linked() as (connection, listener, _):
            connection.send(block(41))
            [batch] = self.batches(listener, 1)
            connection.close()
            event(listener, Disconnected)
            listener.close()  # its I/O thread lets go of the connection after it has told of its end
            assert listener.leased_bytes == 0
            assert batch.nodes["token"].tolist() == [41]

    def test_nothing_in_time_is_an_empty_batch(self) -> None:
        with listening() as listener:
            batch = listener.poll_batch(0.01)
            assert (batch.others, len(batch.numbers), batch.offsets.tolist()) == ([], 0, [0])
            listener.wake()
            assert listener.poll_batch(None).others == []


class TestDeadPeers:
    def test_no_server(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening
            with pytest.raises(OSError, match="refused"):
                Connection("127.0.0.1", taken.getsockname()[1], MAX_WAIT_S)

    def test_an_address_that_is_taken(self) -> None:
        with listening() as listener, pytest.raises(OSError, match="in use"):
            Listener("127.0.0.1", listener.port)

    def test_a_server_that_falls_silent(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            connection = Connection("127.0.0.1", mute.getsockname()[1], MAX_WAIT_S, dead_after_s=0.2)
            with pytest.raises(ConnectionError, match="nothing was heard"):
                connection.receive(MAX_WAIT_S)
            assert connection.dead
            with pytest.raises(ConnectionError, match="nothing was heard"):
                connection.send(HELLO)

    def test_an_edge_that_falls_silent(self) -> None:
        with listening(dead_after_s=0.2) as listener, RawPeer(listener) as peer:
            peer.socket.sendall(HELLO)
            assert "nothing was heard" in events(listener, 3)[2][1].reason

    def test_a_server_that_goes_away(self) -> None:
        with linked() as (connection, listener, number):
            listener.send(number, verdict([7]))
            listener.disconnect(number)
            message = connection.receive(MAX_WAIT_S)  # what was sent before comes first
            assert isinstance(message, _native.Verdict)
            with pytest.raises(ConnectionError, match="closed the connection"):
                connection.receive(MAX_WAIT_S)
            event(listener, Disconnected)
            assert not listener.send(number, WELCOME)

    def test_an_edge_that_goes_away(self) -> None:
        with linked() as (connection, listener, number):
            connection.send(_native.encode_close(1, FinishReason.CANCELLED))
            connection.close()
            (_, close), (gone, disconnected) = events(listener, 2)
            assert isinstance(close, _native.Close)
            assert (gone, disconnected.reason) == (number, "the peer closed the connection")

    def test_nothing_is_sent_once_closed(self) -> None:
        with linked() as (connection, _, _):
            connection.close()
            with pytest.raises(ConnectionError, match="closed"):
                connection.send(HELLO)

    @pytest.mark.parametrize("frame", [b"", HELLO[:15], HELLO + b"\0", HELLO[:-8]])
    def test_only_whole_frames_are_sent(self, frame: bytes) -> None:
        with linked() as (connection, listener, number):
            with pytest.raises(ValueError, match="whole frame"):
                connection.send(frame)
            with pytest.raises(ValueError, match="whole frame"):
                listener.send(number, frame)


class TestHostilePeers:
    @pytest.mark.parametrize(
        ("noise", "why"),
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"over the limit"),
            (bytes(64), b"unknown type 0"),
            (struct.pack("<IBBHII", 497, 1, 0, 0, 0, 0), b"over the limit of 496"),
            (struct.pack("<IBBHII", 2**32 - 1, 3, 0, 1, 0, 0), b"over the limit of 496"),
            (struct.pack("<IBBHII", 0, 200, 0, 0, 0, 0), b"unknown type 200"),
            (struct.pack("<IBBHII", 8, 5, 0, 0, 1, 0), b"channel 0"),
            (b"".join([HELLO[:16], b"SSH-", HELLO[20:]]), b"not an edgespec HELLO"),
            (HELLO + numbered(block(1), 2), b"missing before"),
        ],
        ids=lambda value: value[:8].hex() if isinstance(value, bytes) else None,
    )
    def test_garbage_is_answered_and_the_listener_lives(self, noise: bytes, why: bytes) -> None:
        with listening() as listener:
            with RawPeer(listener) as peer:
                peer.socket.sendall(noise)
                channel, _, payload = peer.frame(14)
                assert channel == 0
                assert payload[:3] == b"\x01\0\0"  # PROTOCOL, not retryable
                assert why in payload
                with pytest.raises(EOFError):
                    peer.frame(0)
            happened = listener.poll(MAX_WAIT_S)
            while not isinstance(happened[-1][1], Disconnected):
                happened += listener.poll(MAX_WAIT_S)
            assert why.decode() in happened[-1][1].reason
            connection, _ = connect(listener)
            connection.close()

    def test_the_reason_arrives_though_the_peer_goes_on_talking(self) -> None:
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(bytes(300_000))
            assert b"unknown type 0" in peer.frame(14)[2]

    def test_half_a_frame_is_no_harm(self) -> None:
        with listening() as listener:
            with RawPeer(listener) as peer:
                peer.socket.sendall(HELLO[:40])
                [(_, connected)] = events(listener, 1)
                assert isinstance(connected, _native.Connected)
            event(listener, Disconnected)

    def test_a_connection_refuses_a_server_that_is_none(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            connection = Connection("127.0.0.1", other.getsockname()[1], MAX_WAIT_S)
            accepted, _ = other.accept()
            with accepted:
                accepted.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                with pytest.raises(ConnectionError, match="broke the protocol"):
                    connection.receive(MAX_WAIT_S)

    def test_the_limit_is_what_the_welcome_says(self) -> None:
        small = WELCOME[:32] + struct.pack("<I", 2048) + WELCOME[36:]
        with listening() as listener, RawPeer(listener) as peer:
            peer.socket.sendall(HELLO)
            number = events(listener, 2)[0][0]
            listener.send(number, small)
            peer.frame(2)
            peer.socket.sendall(struct.pack("<IBBHII", 2033, 5, 0, 1, 1, 0))
            assert b"over the limit of 2032" in peer.frame(14)[2]


class TestWaiting:
    def test_nothing_in_time_is_none(self) -> None:
        with linked() as (connection, listener, _):
            assert connection.receive(0) is None
            assert connection.receive(0.01) is None
            assert listener.poll(0) == []
            assert listener.poll(0.01) == []

    def test_the_descriptor_is_readable_while_there_is_something(self) -> None:
        def readable(timeout_s: float) -> bool:
            return bool(select.select([connection], [], [], timeout_s)[0])

        with linked() as (connection, listener, number):
            assert not readable(0)
            listener.send(number, verdict([1]))
            assert readable(MAX_WAIT_S)
            assert connection.receive(0) is not None
            assert not readable(0)
            listener.disconnect(number)
            assert readable(MAX_WAIT_S)
            with pytest.raises(ConnectionError):
                connection.receive(0)

    def test_asyncio_can_wait_for_it(self) -> None:
        async def tokens() -> list[int]:
            arrived = asyncio.Event()
            asyncio.get_running_loop().add_reader(connection.fileno(), arrived.set)
            listener.send(number, verdict([1, 2, 3]))
            await asyncio.wait_for(arrived.wait(), MAX_WAIT_S)
            message = connection.receive(0)
            asyncio.get_running_loop().remove_reader(connection.fileno())
            assert isinstance(message, _native.Verdict)
            return message.tokens.tolist()

        with linked() as (connection, listener, number):
            assert asyncio.run(tokens()) == [1, 2, 3]

    def test_wake_and_close_end_a_wait_without_end(self) -> None:
        with linked() as (connection, listener, _):
            assert result_of_thread(lambda: listener.poll(None), listener.wake) == []
            with pytest.raises(ConnectionError):
                result_of_thread(lambda: connection.receive(None), connection.close)

    def test_waiting_leaves_other_threads_the_interpreter(self) -> None:
        with linked() as (connection, listener, number):
            # The wait can only end if this thread runs meanwhile.
            assert (
                result_of_thread(
                    lambda: connection.receive(MAX_WAIT_S), lambda: listener.send(number, verdict([1]))
                )
                is not None
            )

    def test_no_thread_is_left_behind(self) -> None:
        def threads() -> int:
            return len(os.listdir("/proc/self/task"))

        gc.collect()
        before = threads()
        with linked() as (connection, listener, _):
            assert threads() == before + 2
        del connection, listener
        gc.collect()
        assert threads() == before

    def test_the_interpreter_ends_though_links_are_open(self) -> None:
        code = (
            "from edgespec._native import Connection, Listener\n"
            "listener = Listener('127.0.0.1', 0)\n"
            "connection = Connection('127.0.0.1', listener.port, 5.0)\n"
            "cycle = [listener, connection]; cycle.append(cycle)\n"
            "print(listener.poll(5.0)[0][0])\n"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")


def result_of_thread(wait: Callable[[], Any], meanwhile: Callable[[], Any]) -> Any:
    """What `wait` gives or raises on a thread of its own, while this one does something."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(wait())
        except ConnectionError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    meanwhile()
    thread.join(MAX_WAIT_S)
    assert results, "the wait did not end"
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]
