"""Sockets on loopback: what is sent comes whole, once and in order, alone or in batches."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import raw_peer
from links import (
    HELLO,
    MAX_WAIT_S,
    WELCOME,
    answer,
    block,
    connect,
    ended,
    event,
    events,
    linked,
    listening,
    open_session,
    opening,
    verdict,
)
from raw_peer import RawPeer

from edgespec import _native
from edgespec._native import COMMITTED_BIT, Listener

PIECE_BYTES = 512


class TestDelivery:
    def test_frames_come_in_order_both_ways(self) -> None:
        with linked() as (link, listener, session):
            for token in range(500):
                link.send(block(token))
            assert [what.tokens[0] for _, what in events(listener, 500)] == list(range(500))
            for token in range(500):
                assert listener.send(session, verdict([token]))
            assert [answer(link) for _ in range(500)] == [[token] for token in range(500)]

    def test_a_server_that_never_sleeps_serves_as_well_and_ends(self) -> None:
        with listening(busy_spin=True) as listener:
            link, session = open_session(listener)
            with closing(link):
                link.send(block(7))
                assert event(listener, _native.Block).tokens[0] == 7
                assert listener.send(session, verdict([8]))
                assert answer(link) == [8]

    def test_a_prompt_of_a_mebibyte(self) -> None:
        tokens = np.arange((2**20 - 128) // 4, dtype=np.int32)
        with listening() as listener, closing(connect(listener)[0]) as link:
            link.open(opening(tokens))
            opened = event(listener, _native.Open)
            assert np.array_equal(opened.tokens, tokens)
            assert opened.tokens.__array_interface__["data"][0] % 8 == 0

    @pytest.mark.parametrize("chunk", [1, 7, 24, 10_000])
    def test_bytes_may_come_in_any_pieces(self, chunk: int) -> None:
        stream = HELLO + b"".join(block(token) for token in range(20))
        with listening() as listener, RawPeer(listener.port) as peer:
            for start in range(0, len(stream), chunk):
                peer.send(stream[start : start + chunk])
            _, (_, hello), *blocks = events(listener, 22)
            assert hello.agent == "test"
            assert [what.tokens[0] for _, what in blocks] == list(range(20))

    def test_an_unknown_optional_frame_is_passed_over(self) -> None:
        with listening() as listener, RawPeer(listener.port) as peer:
            peer.send(raw_peer.frame(200, b"new", channel=9, flags=1), HELLO)
            assert isinstance(events(listener, 2)[1][1], _native.Hello)

    def test_pings_are_answered_before_any_hello(self) -> None:
        with listening() as listener, RawPeer(listener.port) as peer:
            peer.send(raw_peer.frame(raw_peer.PING, struct.pack("<Q", 0x1122334455667788)))
            pong = peer.until(raw_peer.PONG)
            assert pong is not None and pong.channel == 0
            assert pong.payload[:8] == struct.pack("<Q", 0x1122334455667788)
            assert len(pong.payload) == 16

    def test_round_trip_and_bytes_are_counted(self) -> None:
        with linked() as (link, listener, session):
            assert 0 < (link.rtt_ms or 0.0) < MAX_WAIT_S * 1e3  # the PONG came before the WELCOME
            assert 0 < (listener.rtt_ms(session) or 0.0) < MAX_WAIT_S * 1e3  # and before the OPEN
            assert listener.rtt_ms(session + 1) is None
            link.send(block(7))
            event(listener, _native.Block)  # written after the HELLO was, and was counted
            assert link.bytes_sent >= len(HELLO)
            assert link.bytes_received >= len(WELCOME)

    def test_many_connections(self) -> None:
        with listening() as listener:
            peers = [open_session(listener) for _ in range(64)]
            assert listener.leased_bytes <= 64 * 2 * PIECE_BYTES  # who says little waits with little
            for token, (_, session) in enumerate(peers):
                assert listener.send(session, verdict([token]))
            for token, (link, _) in enumerate(peers):
                assert answer(link) == [token]
                link.close()
            away = [number for number, what in events(listener, 128) if isinstance(what, _native.Away)]
            assert sorted(away) == [session for _, session in peers]

    @pytest.mark.parametrize("frame", [b"", HELLO[:15], HELLO + b"\0", HELLO[:-8]])
    def test_only_whole_frames_are_sent(self, frame: bytes) -> None:
        with linked() as (link, listener, session):
            with pytest.raises(ValueError, match="whole frame"):
                link.send(frame)
            with pytest.raises(ValueError, match="whole frame"):
                listener.send(session, frame)


class TestBatches:
    """poll_batch: the blocks of many sessions in one structured array."""

    def batches(self, listener: Listener, blocks: int) -> Iterator[_native.Batch]:
        """Batches, until this number of blocks has come."""
        seen = 0
        while seen < blocks:
            batch = listener.poll_batch(MAX_WAIT_S)
            seen += len(batch.numbers)
            yield batch

    def test_nodes_of_all_sessions_lie_in_one_array(self) -> None:
        with listening() as listener:
            links = [open_session(listener) for _ in range(3)]
            expected = {}
            for size, (link, session) in enumerate(links):
                tokens = np.arange(size, dtype=np.int32) + 10 * session
                parents = np.arange(size, dtype=np.uint32) | COMMITTED_BIT
                probabilities = np.arange(size, dtype=np.uint8)
                link.send(_native.encode_block(1, 5, tokens, parents, probabilities))
                rows = zip(tokens.tolist(), parents.tolist(), probabilities.tolist(), strict=True)
                expected[session] = (5, list(rows))
            received = {}
            for batch in self.batches(listener, 3):
                assert batch.nodes.dtype.names == ("token", "parent", "probability")
                bounds = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
                of_block = [batch.nodes[start:end].tolist() for start, end in bounds]
                blocks = zip(batch.first_nodes.tolist(), of_block, strict=True)
                received.update(zip(batch.numbers.tolist(), blocks, strict=True))
            assert received == expected

    def test_a_large_block_comes_in_pieces_that_continue_each_other(self) -> None:
        count, first = 150, 7
        tokens = np.arange(count, dtype=np.int32)
        parents = np.arange(first - 1, first + count - 1, dtype=np.uint32)
        probabilities = np.arange(count, dtype=np.uint8)
        with linked() as (link, listener, session):
            link.send(_native.encode_block(1, first, tokens, parents, probabilities))
            pieces = list(self.batches(listener, 3))
            assert [len(piece.nodes) for piece in pieces] == [64, 64, 22]
            assert [piece.numbers.tolist() for piece in pieces] == [[session]] * 3
            assert [piece.first_nodes.tolist() for piece in pieces] == [[first], [first + 64], [first + 128]]
            assert [piece.following.tolist() for piece in pieces] == [[86], [22], [0]]
            nodes = np.concatenate([piece.nodes for piece in pieces])
            assert nodes["token"].tolist() == tokens.tolist()
            assert nodes["parent"].tolist() == parents.tolist()
            assert nodes["probability"].tolist() == probabilities.tolist()

    def test_what_came_between_blocks_stays_between_them(self) -> None:
        turn = _native.encode_append(1, keep_length=4, max_new_tokens=1, turn=1, tokens=np.zeros(0, np.int32))
        with linked() as (link, listener, session):
            for frame in (*map(block, range(3)), turn, *map(block, range(3, 6))):
                link.send(frame)
            order: list[Any] = []
            for batch in self.batches(listener, 6):
                order += [type(message) for _, message in batch.others]
                order += batch.nodes["token"].tolist()
                assert set(batch.numbers.tolist()) <= {session}
            assert order == [0, 1, 2, _native.Append, 3, 4, 5]

    def test_it_holds_nothing_of_the_receive_buffer(self) -> None:
        with linked() as (link, listener, _):
            link.send(block(41))
            [batch] = self.batches(listener, 1)
            link.close()
            ended(listener)
            listener.close()  # its I/O thread lets go of the connection after it has told of its end
            assert listener.leased_bytes == 0
            assert batch.nodes["token"].tolist() == [41]

    def test_nothing_in_time_is_an_empty_batch(self) -> None:
        with listening() as listener:
            batch = listener.poll_batch(0.01)
            assert (batch.others, len(batch.numbers), batch.offsets.tolist()) == ([], 0, [0])
            listener.wake()
            assert listener.poll_batch(None).others == []
