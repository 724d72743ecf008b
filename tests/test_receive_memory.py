"""Received arrays are views: what they rest on lives as long as they do, and no longer; memory is bounded."""

from __future__ import annotations

import gc
from contextlib import closing
from typing import Any

import numpy as np
from links import HELLO, answer, block, connect, ended, event, events, linked, listening, opening, verdict
from raw_peer import RawPeer

from edgespec import _native

SLAB_BYTES, PIECE_BYTES = 16 * 1024, 512
SMALLEST_POOL = 2 * SLAB_BYTES + 3 * (2**20 + 16)


def test_messages_of_one_read_view_one_buffer() -> None:
    with listening() as listener, RawPeer(listener.port) as peer:
        frames = [block(token) for token in range(3)]
        peer.send(HELLO, *frames)
        addresses = [what.tokens.__array_interface__["data"][0] for _, what in events(listener, 5)[2:]]
        assert [address - addresses[0] for address in addresses] == [n * len(frames[0]) for n in range(3)]
        assert (addresses[0] - 24) % 8 == 0  # a frame begins at a multiple of 8


def test_a_view_outlives_its_message_connection_and_listener() -> None:
    with linked() as (link, listener, _):
        link.send(block(41))
        tokens = event(listener, _native.Block).tokens
        link.close()
        ended(listener)
        listener.close()
        gc.collect()
        assert listener.leased_bytes == PIECE_BYTES  # what the view rests on, and nothing else
        assert tokens.tolist() == [41]
        tokens = None
        gc.collect()
        assert listener.leased_bytes == 0


def test_a_view_survives_everything_native() -> None:
    with linked() as (link, listener, session):
        listener.send(session, verdict(range(100)))
        message = link.receive(None)
        assert isinstance(message, _native.Verdict)
        tokens = message.tokens
    del link, listener, message
    gc.collect()
    assert tokens.tolist() == list(range(100))


def test_dlpack_and_the_buffer_protocol_share_the_receive_buffer() -> None:
    with linked() as (link, listener, _):
        link.send(block(41))
        tokens = event(listener, _native.Block).tokens
        address = tokens.__array_interface__["data"][0]
        shared = np.from_dlpack(tokens)
        raw = memoryview(tokens)
        assert shared.__array_interface__["data"] == (address, True)  # and read-only
        assert raw.readonly
        tokens = None
        link.close()
        ended(listener)
        listener.close()
        gc.collect()
        assert listener.leased_bytes == PIECE_BYTES  # they keep what they rest on
        assert (shared.tolist(), raw.tolist()) == ([41], [41])
        shared = None
        raw.release()
        raw = None  # type: ignore[assignment]
        gc.collect()
        assert listener.leased_bytes == 0


def test_back_pressure_instead_of_memory() -> None:
    """A server whose memory is all viewed reads on when views go."""
    with listening(slabs=2, dead_after_s=60.0) as listener, RawPeer(listener.port) as peer:
        peer.send(HELLO)
        events(listener, 2)
        frames = [np.full(50, token, np.int32) for token in range(5000)]
        peer.send(*(_block(tokens) for tokens in frames))
        held: list[Any] = []
        while more := listener.poll(0.3):
            held += [what for _, what in more]
        assert len(held) < len(frames)
        assert listener.leased_bytes <= SMALLEST_POOL
        taken = [int(what.tokens[0]) for what in held]
        held.clear()
        del more
        while len(taken) < len(frames):
            [(_, what)] = events(listener, 1)
            taken.append(int(what.tokens[0]))
            what = None
        assert taken == list(range(len(frames)))


def _block(tokens: Any) -> bytes:
    parents = np.full(len(tokens), _native.COMMITTED_BIT, np.uint32)
    return _native.encode_block(1, 1, tokens, parents, np.zeros(len(tokens), np.uint8))


def test_frames_larger_than_a_slab_are_bounded_too() -> None:
    with listening(slabs=8) as listener, closing(connect(listener)[0]) as link:
        for _ in range(4):
            link.open(opening(np.arange(200_000, dtype=np.int32)))
            opened = event(listener, _native.Open)
            assert opened.tokens[-1] == 199_999
            assert listener.leased_bytes <= SMALLEST_POOL  # room for some such prompts
            opened = None


def test_a_peer_that_does_not_read_is_dropped() -> None:
    with listening() as listener, RawPeer(listener.port) as peer:
        peer.send(HELLO)
        number = events(listener, 2)[0][0]
        happened: list[tuple[int, Any]] = []
        while not happened:
            listener.send(number, verdict(np.zeros(60_000, dtype=np.int32)))
            happened = listener.poll(0.001)
        assert "reads too slowly" in happened[0][1].reason


def test_what_an_edge_does_not_take_waits_at_the_server() -> None:
    with linked() as (link, listener, session):
        for token in range(50):
            listener.send(session, verdict([token] * 1000))
        assert [answer(link)[0] for _ in range(50)] == list(range(50))
