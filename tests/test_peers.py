"""Sockets on loopback: peers that go, fall silent or talk nonsense, and callers that wait."""

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
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import raw_peer
from links import (
    HELLO,
    HOST,
    MAX_WAIT_S,
    WELCOME,
    WELCOME_FIELDS,
    answer,
    block,
    connect,
    ended,
    event,
    events,
    linked,
    listening,
    opening,
    verdict,
)
from raw_peer import RawPeer

from edgespec import _native
from edgespec._native import Disconnected, FinishReason, Listener, ResilientConnection


class TestPeersThatGo:
    def test_no_server(self) -> None:
        with socket.socket() as taken:
            taken.bind((HOST, 0))  # bound, not listening
            link = ResilientConnection([taken.getsockname()], HELLO)
            with closing(link), pytest.raises(ConnectionError, match="refused"):
                link.receive(MAX_WAIT_S)

    def test_an_address_that_is_taken(self) -> None:
        with listening() as listener, pytest.raises(OSError, match="in use"):
            Listener(HOST, listener.port)

    def test_a_server_that_falls_silent(self) -> None:
        with socket.create_server((HOST, 0)) as mute:
            link = ResilientConnection([mute.getsockname()], HELLO, dead_after_s=0.2)
            with closing(link):
                with pytest.raises(ConnectionError, match="nothing was heard"):
                    link.receive(MAX_WAIT_S)
                assert link.dead
                with pytest.raises(ConnectionError, match="nothing was heard"):
                    link.send(HELLO)

    def test_an_edge_that_falls_silent(self) -> None:
        with listening(dead_after_s=0.2) as listener, RawPeer(listener.port) as peer:
            peer.send(HELLO)
            assert "nothing was heard" in events(listener, 3)[2][1].reason

    def test_a_server_that_goes_away(self) -> None:
        with listening() as listener:
            link, number = connect(listener)
            with closing(link):
                listener.disconnect(number)
                lost = link.receive(MAX_WAIT_S)
                assert isinstance(lost, _native.Lost) and lost.reason == "the peer closed the connection"
                ends = (type(message) for _, message in iter(lambda: events(listener, 1)[0], None))
                assert _native.Disconnected in ends  # the edge may have called again before
                assert not listener.welcome(number, WELCOME, b"")

    def test_a_server_of_another_target_is_shown_nothing_of_the_session(self) -> None:
        other = _native.encode_welcome(**WELCOME_FIELDS | {"target_id": "other"})
        with listening() as first, listening() as second:
            addresses = [(HOST, first.port), (HOST, second.port)]
            with closing(ResilientConnection(addresses, HELLO, hedge=False)) as link:
                [(number, _), _] = events(first, 2)
                first.welcome(number, WELCOME, b"")
                assert isinstance(link.receive(MAX_WAIT_S), _native.Welcome)
                link.open(opening([1, 2]))
                event(first, _native.Open)
                first.close()
                [(number, _), _] = events(second, 2)
                second.welcome(number, other, b"")
                assert isinstance(link.receive(MAX_WAIT_S), _native.Lost)
                passed_over = link.receive(MAX_WAIT_S)
                assert isinstance(passed_over, _native.OtherTarget)
                assert (passed_over.target_id, passed_over.address) == ("other", addresses[1])
                event(second, Disconnected)

    def test_an_edge_that_goes_away(self) -> None:
        with linked() as (link, listener, _):
            link.close()
            assert ended(listener) == ["the peer closed the connection"] * 2
            with pytest.raises(ConnectionError, match="closed"):
                link.send(block(1))

    def test_an_edge_that_closes_its_session(self) -> None:
        with linked() as (link, listener, session):
            link.send(_native.encode_close(1, FinishReason.CANCELLED))
            event(listener, _native.Close)
            link.open(opening([1]))  # which is heard once the CLOSE has been seen to
            event(listener, _native.Open)
            assert not listener.send(session, verdict([1]))


class TestPeersThatTalkNonsense:
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
            (bytes(300_000), b"unknown type 0"),  # though the peer goes on talking
        ],
        ids=lambda value: value[:8].hex() if isinstance(value, bytes) else None,
    )
    def test_garbage_is_answered_and_the_listener_lives(self, noise: bytes, why: bytes) -> None:
        with listening() as listener:
            with RawPeer(listener.port) as peer:
                peer.send(noise)
                error = peer.until(raw_peer.ERROR)
                assert error is not None and error.channel == 0 and why in error.payload
                assert (error.code, error.retryable) == (raw_peer.PROTOCOL, False)
                assert peer.closed()
            happened = listener.poll(MAX_WAIT_S)
            while not isinstance(happened[-1][1], Disconnected):
                happened += listener.poll(MAX_WAIT_S)
            assert why.decode() in happened[-1][1].reason
            connect(listener)[0].close()

    def test_half_a_frame_is_no_harm(self) -> None:
        with listening() as listener:
            with RawPeer(listener.port) as peer:
                peer.send(HELLO[:40])
                event(listener, _native.Connected)
            event(listener, Disconnected)

    def test_a_server_that_is_none_is_refused(self) -> None:
        with socket.create_server((HOST, 0)) as other:
            link = ResilientConnection([other.getsockname()], HELLO)
            accepted, _ = other.accept()
            with closing(link), accepted:
                accepted.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                with pytest.raises(ConnectionError, match="broke the protocol"):
                    link.receive(MAX_WAIT_S)

    def test_the_limit_is_what_the_welcome_says(self) -> None:
        small = WELCOME_FIELDS | {"max_frame_bytes": 2048}
        with listening() as listener, RawPeer(listener.port) as peer:
            peer.send(HELLO)
            number = events(listener, 2)[0][0]
            with pytest.raises(ValueError, match="with a WELCOME"):
                listener.welcome(number, HELLO, b"")
            listener.welcome(number, _native.encode_welcome(**small), b"")
            peer.until(raw_peer.WELCOME)
            peer.send(struct.pack("<IBBHII", 2033, 5, 0, 1, 1, 0))
            error = peer.until(raw_peer.ERROR)
            assert error is not None and b"over the limit of 2032" in error.payload


class TestWaiting:
    def test_nothing_in_time_is_none(self) -> None:
        with linked() as (link, listener, _):
            assert (link.receive(0), link.receive(0.01)) == (None, None)
            assert (listener.poll(0), listener.poll(0.01)) == ([], [])

    def test_the_descriptor_is_readable_while_there_is_something(self) -> None:
        def readable(timeout_s: float) -> bool:
            return bool(select.select([link], [], [], timeout_s)[0])

        with linked() as (link, listener, session):
            assert not readable(0)
            listener.send(session, verdict([1]))
            assert readable(MAX_WAIT_S)
            assert link.receive(0) is not None
            assert not readable(0)
            link.close()
            assert readable(MAX_WAIT_S)
            with pytest.raises(ConnectionError):
                link.receive(0)

    def test_asyncio_can_wait_for_it(self) -> None:
        async def tokens() -> list[int]:
            arrived = asyncio.Event()
            asyncio.get_running_loop().add_reader(link.fileno(), arrived.set)
            listener.send(session, verdict([1, 2, 3]))
            await asyncio.wait_for(arrived.wait(), MAX_WAIT_S)
            asyncio.get_running_loop().remove_reader(link.fileno())
            return answer(link)

        with linked() as (link, listener, session):
            assert asyncio.run(tokens()) == [1, 2, 3]

    def test_wake_and_close_end_a_wait_without_end(self) -> None:
        with linked() as (link, listener, _):
            assert result_of_thread(lambda: listener.poll(None), listener.wake) == []
            with pytest.raises(ConnectionError):
                result_of_thread(lambda: link.receive(None), link.close)

    def test_waiting_leaves_other_threads_the_interpreter(self) -> None:
        with linked() as (link, listener, session):
            # The wait can only end if this thread runs meanwhile.
            said = result_of_thread(
                lambda: link.receive(MAX_WAIT_S), lambda: listener.send(session, verdict([1]))
            )
            assert said is not None

    def test_no_thread_is_left_behind(self) -> None:
        def threads() -> int:
            return len(os.listdir("/proc/self/task"))

        gc.collect()
        before = threads()
        with linked() as (link, listener, _):
            assert threads() == before + 2
        del link, listener
        gc.collect()
        assert threads() == before

    def test_the_interpreter_ends_though_links_are_open(self) -> None:
        code = (
            "from links import connect, Listener\n"
            "listener = Listener('127.0.0.1', 0)\n"
            "link, number = connect(listener)\n"
            "cycle = [listener, link]; cycle.append(cycle)\n"
            "print(number)\n"
        )
        folder = os.path.dirname(__file__)
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
        )
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
