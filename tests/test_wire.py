"""The wire format: golden bytes of every frame that Python encodes, round trips, hostile frames.

The bytes are written out from docs/wire-format.md, field by field; nothing of the code under test makes them.
"""

from __future__ import annotations

import gc
import math
import struct
import sys
from typing import Any

import numpy as np
import pytest
import raw_peer
from hypothesis import given
from hypothesis import strategies as st

from edgespec import _native
from edgespec._native import COMMITTED_BIT, ErrorCode, FinishReason
from edgespec.core.server_options import ServerOptions

HASH = bytes(range(32))
SESSION_ID = bytes(range(100, 116))
OPTIONS = ServerOptions(
    fill=True, low_priority=True, server_draft="lent", hint_threshold=0.5, max_wait_ms=1.5
)
OPEN_FIELDS: dict[str, Any] = {
    "session_id": SESSION_ID,
    "temperature": 0.75,
    "top_k": 40,
    "top_p": 0.5,
    "min_p": 0.25,
    "repetition_penalty": 1.5,
    "seed": 0x0123456789ABCDEF,
    "max_new_tokens": 64,
    "logprobs": True,
    "ignore_eos": False,
    "options": OPTIONS.to_wire(),
    "latency_us": 0x01020304,
    "logit_bias": [(7, -1.5)],
    "tokens": np.array([1, 2, 3], dtype=np.int32),
}


def framed(kind: int, channel: int, payload: bytes, flags: int = 0) -> bytes:
    """A whole frame, as the page says it."""
    header = struct.pack("<IBBHII", len(payload), kind, flags, channel, 0, 0)
    return header + payload + bytes(-len(payload) % 8)


HELLO = framed(1, 0, b"EDGS" + struct.pack("<HHIHH", 1, 1, 5, 2, 3) + HASH + b"me" + b"key")
WELCOME = framed(
    2,
    0,
    struct.pack("<HHIIIIIHHI", 1, 12, 1, 2048, 4096, 65536, 1024, 2, 3, 6)
    + HASH
    + struct.pack("<2i3H", 0, 9, 3, 6, 9)
    + b"target",
)
OPEN = framed(
    3,
    7,
    SESSION_ID
    + struct.pack("<ddddQ", 0.75, 0.5, 0.25, 1.5, 0x0123456789ABCDEF)
    + struct.pack("<IIIfIIIIHHI", 40, 64, 1 | 2 | 8 | 16, 0.5, 1500, 0, 3, 1, 0, 1, 0x01020304)
    + struct.pack("<3iif", 1, 2, 3, 7, -1.5),
)
APPEND = framed(4, 7, struct.pack("<IIIHH2i", 10, 20, 2, 3, 0, 5, 6))
BLOCK = framed(
    5,
    7,
    struct.pack("<IHH", 11, 3, 0)
    + struct.pack("<3i3I", 5, 6, 7, COMMITTED_BIT | 4, 11, 11)
    + bytes([255, 128, 3]),
)
HINT = framed(6, 7, struct.pack("<IIifHHI", 4, 11, 9, 0.5, 6, 2, 0xFFFFFFFF))
VERDICT = framed(7, 7, struct.pack("<IIIIHHHBB2i2f", 4, 5, 6, 7, 8, 2, 2, 1, 1, 9, 10, -0.5, -2.0))
PLAIN_VERDICT = framed(7, 7, struct.pack("<IIIIHHHBBi", 4, 5, 6, 7, 8, 2, 1, 0, 0, 9))
RESUME = framed(9, 7, SESSION_ID + struct.pack("<II", 77, 0))
CLOSE = framed(10, 7, bytes([3]) + bytes(7))
GOAWAY = framed(13, 0, struct.pack("<II", 500, 3) + b"bye")
ERROR = framed(14, 7, struct.pack("<HBBIII", 8, 1, 0, 250, 4, 0) + b"full")
TUNE = framed(15, 7, struct.pack("<IfII", 2 | 4 | 32, 0.25, 2000, 0))

TUNED = ServerOptions(prompt_lookup=True, hint_threshold=0.25, server_draft="required", max_wait_ms=2.0)

TOKENS = np.array([5, 6, 7], dtype=np.int32)
PARENTS = np.array([COMMITTED_BIT | 4, 11, 11], dtype=np.uint32)
PROBABILITIES = np.array([255, 128, 3], dtype=np.uint8)
VERDICT_FIELDS: dict[str, Any] = {
    "channel": 7,
    "base_length": 4,
    "forwards": 5,
    "forward_us": 6,
    "clock_us": 7,
    "rows": 8,
    "turn": 2,
}

GOLDEN: dict[str, tuple[bytes, bytes]] = {
    "HELLO": (
        _native.encode_hello(vocabulary_hash=HASH, agent="me", credential=b"key", features=5),
        HELLO,
    ),
    "WELCOME": (
        _native.encode_welcome(
            version=1,
            features=_native.HOSTS_DRAFT,
            vocabulary_hash=HASH,
            context_length=2048,
            vocabulary_size=4096,
            layers=12,
            exit_layers=[3, 6, 9],
            end_tokens=[0, 9],
            target_id="target",
            max_frame_bytes=65536,
            max_block_nodes=1024,
        ),
        WELCOME,
    ),
    "OPEN": (_native.encode_open(7, **OPEN_FIELDS), OPEN),
    "APPEND": (_native.encode_append(7, 10, 20, np.array([5, 6], dtype=np.int32), 3), APPEND),
    "BLOCK": (_native.encode_block(7, 11, TOKENS, PARENTS, PROBABILITIES), BLOCK),
    "HINT": (
        _native.encode_hint(
            channel=7, base_length=4, node=11, token=9, confidence=0.5, layer=6, clock_us=0xFFFFFFFF, turn=2
        ),
        HINT,
    ),
    "VERDICT": (
        _native.encode_verdict(
            tokens=np.array([9, 10], dtype=np.int32),
            logprobs=np.array([-0.5, -2.0], dtype=np.float32),
            finish=FinishReason.STOP,
            **VERDICT_FIELDS,
        ),
        VERDICT,
    ),
    "VERDICT without log-probabilities": (
        _native.encode_verdict(
            tokens=np.array([9], dtype=np.int32), logprobs=None, finish=FinishReason.NONE, **VERDICT_FIELDS
        ),
        PLAIN_VERDICT,
    ),
    "RESUME": (_native.encode_resume(7, SESSION_ID, 77), RESUME),
    "CLOSE": (_native.encode_close(7, FinishReason.CANCELLED), CLOSE),
    "GOAWAY": (_native.encode_goaway("bye", 500), GOAWAY),
    "ERROR": (_native.encode_error(7, ErrorCode.OVERLOADED, True, "full", 250), ERROR),
    "TUNE": (
        _native.encode_tune(7, TUNED.to_wire()),
        TUNE,
    ),
}


@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=64),
    st.integers(1, 2**30),
    st.integers(1, 2**16 - 1),
)
def test_plain_python_writes_and_reads_the_same_blocks(
    nodes: list[tuple[int, int]], first_node: int, channel: int
) -> None:
    """tests/raw_peer.py is a second writer of docs/wire-format.md: the hostile peers' frames are real ones."""
    tokens, lengths = ([node[i] for node in nodes] for i in (0, 1))
    parents = [COMMITTED_BIT | length for length in lengths]
    frame = _native.encode_block(
        channel,
        first_node,
        np.array(tokens, dtype=np.int32),
        np.array(parents, dtype=np.uint32),
        np.full(len(nodes), 255, dtype=np.uint8),
    )
    assert raw_peer.block(channel, 0, first_node, tokens, parents) == frame
    assert raw_peer.read_block(frame) == (first_node, tuple(tokens), tuple(parents), b"\xff" * len(nodes))


def read_back(message: Any) -> dict[str, Any]:
    """A message's fields, its arrays as lists."""
    names = [name for name in dir(message) if not name.startswith("_")]
    return {name: plain(getattr(message, name)) for name in names}


def plain(value: Any) -> Any:
    if isinstance(value, _native.ServerOptions):
        return ServerOptions.from_wire(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", GOLDEN)
def test_frames_have_their_golden_bytes(name: str) -> None:
    encoded, golden = GOLDEN[name]
    assert encoded.hex() == golden.hex()


def test_a_hello_in_plain_hexadecimal() -> None:
    assert _native.encode_hello(vocabulary_hash=HASH, agent="e").hex() == (
        "31000000" "01" "00" "0000" "00000000" "00000000"  # 49 bytes, HELLO
        "45444753" "0100" "0100" "00000000" "0100" "0000"  # EDGS, versions, features, lengths
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "65" "00000000000000"  # the agent, padding
    )  # fmt: skip


def test_every_field_is_read_back() -> None:
    assert read_back(_native.decode(HELLO)) == {
        "channel": 0,
        "version_min": 1,
        "version_max": 1,
        "features": 5,
        "vocabulary_hash": HASH,
        "agent": "me",
        "credential": b"key",
    }
    assert read_back(_native.decode(WELCOME)) == {
        "channel": 0,
        "version": 1,
        "features": 1,
        "hosts_draft": True,
        "vocabulary_hash": HASH,
        "context_length": 2048,
        "vocabulary_size": 4096,
        "layers": 12,
        "exit_layers": [3, 6, 9],
        "end_tokens": [0, 9],
        "target_id": "target",
        "max_frame_bytes": 65536,
        "max_block_nodes": 1024,
    }
    assert read_back(_native.decode(OPEN)) == OPEN_FIELDS | {
        "channel": 7,
        "options": OPTIONS,
        "tokens": [1, 2, 3],
    }
    assert read_back(_native.decode(APPEND)) == {
        "channel": 7,
        "keep_length": 10,
        "max_new_tokens": 20,
        "turn": 3,
        "tokens": [5, 6],
    }
    assert read_back(_native.decode(BLOCK)) == {
        "channel": 7,
        "first_node": 11,
        "tokens": [5, 6, 7],
        "parents": [COMMITTED_BIT | 4, 11, 11],
        "probabilities": [255, 128, 3],
    }
    assert read_back(_native.decode(HINT)) == {
        "channel": 7,
        "base_length": 4,
        "node": 11,
        "token": 9,
        "confidence": 0.5,
        "layer": 6,
        "clock_us": 0xFFFFFFFF,
        "turn": 2,
    }
    assert read_back(_native.decode(VERDICT)) == VERDICT_FIELDS | {
        "tokens": [9, 10],
        "logprobs": [-0.5, -2.0],
        "finish": FinishReason.STOP,
    }
    assert read_back(_native.decode(PLAIN_VERDICT))["logprobs"] is None
    assert read_back(_native.decode(RESUME)) == {"channel": 7, "session_id": SESSION_ID, "last_sequence": 77}
    assert read_back(_native.decode(CLOSE)) == {"channel": 7, "reason": FinishReason.CANCELLED}
    assert read_back(_native.decode(GOAWAY)) == {"channel": 0, "message": "bye", "retry_after_ms": 500}
    assert read_back(_native.decode(ERROR)) == {
        "channel": 7,
        "code": ErrorCode.OVERLOADED,
        "retryable": True,
        "message": "full",
        "retry_after_ms": 250,
    }
    assert read_back(_native.decode(TUNE)) == {
        "channel": 7,
        "options": TUNED,
    }


class TestRoundTrips:
    channels = st.integers(1, 65535)
    u32 = st.integers(0, 2**32 - 1)
    u16 = st.integers(0, 2**16 - 1)
    f32 = st.floats(width=32, allow_nan=False)
    ids = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40)
    share = st.floats(0, 1)
    options = st.builds(
        ServerOptions,
        fill=st.booleans(),
        prompt_lookup=st.booleans(),
        hint_threshold=st.none() | st.floats(0, 1, width=32),
        server_draft=st.sampled_from(["off", "lent", "required"]),
        max_wait_ms=st.integers(0, 1000).map(float),
        low_priority=st.booleans(),
    )

    @given(channel=channels, first=st.integers(1, 2**31 - 64), data=st.data())
    def test_block(self, channel: int, first: int, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, 64))
        parents = [
            data.draw(st.one_of(st.integers(1, max(1, first + i - 1)), st.integers(2**31, 2**32 - 1)))
            if first + i > 1
            else 2**31
            for i in range(count)
        ]
        tokens = data.draw(st.lists(st.integers(0, 2**31 - 1), min_size=count, max_size=count))
        probabilities = data.draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
        message = _native.decode(
            _native.encode_block(
                channel,
                first,
                np.array(tokens, dtype=np.int32),
                np.array(parents, dtype=np.uint32),
                np.array(probabilities, dtype=np.uint8),
            )
        )
        assert isinstance(message, _native.Block)
        assert (message.channel, message.first_node) == (channel, first)
        assert (message.tokens.tolist(), message.parents.tolist()) == (tokens, parents)
        assert message.probabilities.tolist() == probabilities

    @given(channels, u32, u32, ids, u16)
    def test_append(self, channel: int, keep: int, limit: int, tokens: list[int], turn: int) -> None:
        fields = {"keep_length": keep, "max_new_tokens": limit, "turn": turn}
        frame = _native.encode_append(channel=channel, tokens=np.array(tokens, dtype=np.int32), **fields)
        assert read_back(_native.decode(frame)) == fields | {"channel": channel, "tokens": tokens}

    @given(
        st.fixed_dictionaries(
            {
                "temperature": st.floats(0, 1e300),
                "top_k": u32,
                "top_p": share,
                "min_p": share,
                "repetition_penalty": st.floats(1e-300, 1e300),
                "seed": st.integers(0, 2**64 - 1),
                "max_new_tokens": u32,
                "options": options,
                "logit_bias": st.lists(st.tuples(st.integers(0, 2**31 - 1), f32), max_size=5),
                "logprobs": st.booleans(),
                "ignore_eos": st.booleans(),
                "latency_us": st.integers(0, 2**32 - 1),
                "session_id": st.binary(min_size=16, max_size=16),
            }
        ),
        ids,
    )
    def test_open(self, fields: dict[str, Any], tokens: list[int]) -> None:
        encoded = fields | {
            "options": fields["options"].to_wire(),
            "tokens": np.array(tokens, dtype=np.int32),
        }
        message = _native.decode(_native.encode_open(3, **encoded))
        assert read_back(message) == fields | {"channel": 3, "tokens": tokens}

    @given(channels, st.lists(st.tuples(st.integers(0, 2**31 - 1), f32), max_size=40), st.booleans())
    def test_verdict(self, channel: int, pairs: list[tuple[int, float]], wants_logprobs: bool) -> None:
        tokens = np.array([token for token, _ in pairs], dtype=np.int32)
        logprobs = np.array([logprob for _, logprob in pairs], dtype=np.float32) if wants_logprobs else None
        fields = VERDICT_FIELDS | {"channel": channel}
        frame = _native.encode_verdict(tokens=tokens, logprobs=logprobs, finish=FinishReason.LENGTH, **fields)
        message = _native.decode(frame)
        assert isinstance(message, _native.Verdict)
        assert message.tokens.tolist() == tokens.tolist()
        if logprobs is not None and len(logprobs):
            assert message.logprobs is not None
            assert message.logprobs.tolist() == logprobs.tolist()
        else:
            assert message.logprobs is None

    @given(st.text(max_size=60), st.binary(max_size=64))
    def test_hello(self, agent: str, credential: bytes) -> None:
        message = _native.decode(
            _native.encode_hello(vocabulary_hash=HASH, agent=agent, credential=credential)
        )
        assert isinstance(message, _native.Hello)
        assert (message.agent, message.credential) == (agent, credential)

    @given(st.text(max_size=200), u32)
    def test_error(self, text: str, retry_after_ms: int) -> None:
        message = _native.decode(_native.encode_error(0, ErrorCode.LIMIT, False, text, retry_after_ms))
        assert isinstance(message, _native.Error)
        assert (message.message, message.retry_after_ms, message.retryable) == (text, retry_after_ms, False)


class TestViews:
    def test_arrays_are_read_only_and_view_one_buffer(self) -> None:
        message = _native.decode(BLOCK)
        assert isinstance(message, _native.Block)
        assert not message.tokens.flags.writeable
        assert message.tokens.base is message
        address = message.tokens.__array_interface__["data"][0]
        assert message.parents.__array_interface__["data"][0] == address + 12
        assert (
            message.tokens.__array_interface__["data"][0] == address
        )  # asked again: the same memory, no copy
        assert address % 4 == 0
        with pytest.raises(ValueError, match="read-only"):
            message.tokens[0] = 1

    def test_a_view_keeps_its_message_and_gives_it_back(self) -> None:
        message = _native.decode(BLOCK)
        before = sys.getrefcount(message)
        view = message.tokens  # type: ignore[union-attr]
        assert sys.getrefcount(message) == before + 1
        del message
        gc.collect()
        assert view.tolist() == [5, 6, 7]
        message = view.base
        del view
        assert sys.getrefcount(message) == before


class TestHostileFrames:
    def test_a_frame_cut_short_anywhere_is_refused(self) -> None:
        for _, frame in GOLDEN.values():
            for length in range(len(frame)):
                with pytest.raises(_native.BadFrame):
                    _native.decode(frame[:length])

    def test_a_payload_that_ends_early_is_refused(self) -> None:
        for _, frame in GOLDEN.values():
            payload_bytes, kind, _, channel = struct.unpack_from("<IBBH", frame)
            for length in range(payload_bytes):
                with pytest.raises(_native.BadFrame):
                    _native.decode(framed(kind, channel, frame[16 : 16 + length]))

    def test_a_payload_that_is_too_long_is_refused(self) -> None:
        for _, frame in GOLDEN.values():
            payload_bytes, kind, _, channel = struct.unpack_from("<IBBH", frame)
            with pytest.raises(_native.BadFrame):
                _native.decode(framed(kind, channel, frame[16 : 16 + payload_bytes] + b"\0"))

    @pytest.mark.parametrize("payload_bytes", [2**20 + 1, 2**31, 2**32 - 1])
    def test_a_length_over_the_limit_is_refused_before_it_is_waited_for(self, payload_bytes: int) -> None:
        with pytest.raises(_native.BadFrame, match="over the limit of 1048576"):
            _native.decode(struct.pack("<IBBHII", payload_bytes, 5, 0, 1, 0, 0))

    @pytest.mark.parametrize("kind", [0, 16, 255])
    def test_an_unknown_type_is_refused(self, kind: int) -> None:
        with pytest.raises(_native.BadFrame, match="unknown type"):
            _native.decode(framed(kind, 0, b""))

    @pytest.mark.parametrize(
        ("payload", "why"),
        [
            (b"HTTP" + HELLO[20:69], "not an edgespec HELLO"),
            (HELLO[16:28] + struct.pack("<HH", 65535, 3) + HELLO[32:69], "shorter than"),
        ],
    )
    def test_a_hello_that_is_none(self, payload: bytes, why: str) -> None:
        with pytest.raises(_native.BadFrame, match=why):
            _native.decode(framed(1, 0, payload))

    @pytest.mark.parametrize("count", [4, 65535])
    def test_a_block_that_claims_more_nodes_than_it_has(self, count: int) -> None:
        payload = struct.pack("<IHH", 11, count, 0) + BLOCK[24:51]
        with pytest.raises(_native.BadFrame):
            _native.decode(framed(5, 7, payload))

    def test_an_open_that_claims_more_tokens_than_memory_has(self) -> None:
        payload = bytearray(OPEN[16 : 16 + 116])
        struct.pack_into("<I", payload, 80, 2**32 - 1)
        with pytest.raises(_native.BadFrame, match="longer than its frame"):
            _native.decode(framed(3, 7, bytes(payload)))

    @pytest.mark.parametrize(
        ("at", "kind", "value", "why"),
        [
            (16, "<d", -1.0, "temperature"),
            (16, "<d", math.nan, "temperature"),
            (16, "<d", math.inf, "temperature"),
            (24, "<d", 1.5, "top_p"),
            (24, "<d", math.nan, "top_p"),
            (32, "<d", -0.1, "min_p"),
            (40, "<d", 0.0, "repetition penalty"),
            (68, "<f", math.nan, "hint threshold"),
        ],
    )
    def test_an_open_whose_parameters_are_nonsense(self, at: int, kind: str, value: float, why: str) -> None:
        payload = bytearray(OPEN[16 : 16 + 116])
        struct.pack_into(kind, payload, at, value)
        with pytest.raises(_native.BadFrame, match=why):
            _native.decode(framed(3, 7, bytes(payload)))

    @pytest.mark.parametrize(
        ("first", "parents", "why"),
        [
            (0, [2**31], "1 to 2"),
            (2**31, [2**31], "1 to 2"),
            (2**31 - 1, [2**31, 2**31], "1 to 2"),
            (5, [0], "parent"),
            (5, [5], "parent"),
            (5, [2**31, 7], "parent"),
        ],
    )
    def test_a_block_whose_ids_are_nonsense(self, first: int, parents: list[int], why: str) -> None:
        count = len(parents)
        payload = struct.pack(f"<IHH{count}i{count}I", first, count, 0, *([1] * count), *parents) + bytes(
            count
        )
        with pytest.raises(_native.BadFrame, match=why):
            _native.decode(framed(5, 7, payload))

    @pytest.mark.parametrize(
        ("kind", "channel"), [(1, 1), (2, 9), (13, 1), (3, 0), (5, 0), (7, 0), (9, 0), (15, 0)]
    )
    def test_a_frame_on_a_channel_that_it_cannot_have(self, kind: int, channel: int) -> None:
        with pytest.raises(_native.BadFrame, match="channel"):
            _native.decode(framed(kind, channel, b""))

    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            (framed(10, 7, bytes([5]) + bytes(7)), "no known reason"),
            (framed(7, 7, struct.pack("<IIIIHHHBB", 4, 5, 6, 7, 8, 2, 0, 9, 0)), "no known reason"),
            (framed(6, 7, struct.pack("<IIifHHI", 4, 11, 9, 1.5, 6, 2, 0)), "confidence"),
            (framed(6, 7, struct.pack("<IIifHHI", 4, 11, 9, math.nan, 6, 2, 0)), "confidence"),
        ],
    )
    def test_values_that_mean_nothing(self, frame: bytes, why: str) -> None:
        with pytest.raises(_native.BadFrame, match=why):
            _native.decode(frame)

    def test_an_unknown_error_code_is_let_through_with_its_sentence(self) -> None:
        payload = struct.pack("<HBBIII", 999, 1, 0, 0, 3, 0) + b"new"
        message = _native.decode(framed(14, 0, payload))
        assert isinstance(message, _native.Error)
        assert (int(message.code), message.retryable, message.message) == (999, True, "new")

    def test_text_that_is_not_utf_8_is_no_way_to_crash(self) -> None:
        message = _native.decode(framed(13, 0, struct.pack("<II", 0, 2) + b"\xff\xfe"))
        assert isinstance(message, _native.Goaway)
        assert message.message == "\ufffd\ufffd"

    @given(st.binary(max_size=200))
    def test_noise_is_refused_or_read_but_never_worse(self, noise: bytes) -> None:
        for kind in range(18):
            try:
                read_back(_native.decode(framed(kind, 7, noise)))
            except _native.BadFrame:
                continue

    @given(st.sampled_from(sorted(GOLDEN)), st.data())
    def test_a_flipped_byte_is_refused_or_read_but_never_worse(self, name: str, data: st.DataObject) -> None:
        frame = bytearray(GOLDEN[name][1])
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            read_back(_native.decode(bytes(frame)))
        except _native.BadFrame:
            return


class TestSections:
    nodes = struct.pack("<i", 5) + struct.pack("<I", COMMITTED_BIT) + bytes([9])

    def block(self, *sections: tuple[int, int, bytes]) -> bytes:
        payload = struct.pack("<IHH", 1, 1, len(sections)) + self.nodes
        for kind, flags, body in sections:
            payload += bytes(-len(payload) % 8) + struct.pack("<HHI", kind, flags, len(body)) + body
        return framed(5, 7, payload)

    def test_unknown_optional_sections_are_passed_over(self) -> None:
        message = _native.decode(self.block((1, 1, b"abc"), (2, 1, b""), (3, 1, b"12345678")))
        assert isinstance(message, _native.Block)
        assert message.tokens.tolist() == [5]

    def test_an_unknown_required_section_is_refused(self) -> None:
        with pytest.raises(_native.BadFrame, match="section that is required"):
            _native.decode(self.block((1, 1, b"abc"), (2, 0, b"")))

    def test_an_open_may_have_sections_too(self) -> None:
        payload = bytearray(OPEN[16 : 16 + 116])
        struct.pack_into("<H", payload, 88, 1)
        payload += bytes(-len(payload) % 8) + struct.pack("<HHI", 1, 1, 3) + b"abc"
        message = _native.decode(framed(3, 7, bytes(payload)))
        assert isinstance(message, _native.Open)
        assert message.tokens.tolist() == [1, 2, 3]

    def test_a_section_longer_than_its_frame_is_refused(self) -> None:
        frame = bytearray(self.block((1, 1, b"abc")))
        struct.pack_into("<I", frame, 16 + 24 + 4, 2**31)
        with pytest.raises(_native.BadFrame, match="shorter than"):
            _native.decode(bytes(frame))


class TestEncodersRefuse:
    def test_hashes_and_ids_of_another_length(self) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            _native.encode_hello(vocabulary_hash=b"short", agent="")
        with pytest.raises(ValueError, match="16 bytes"):
            _native.encode_resume(1, b"short", 0)

    def test_a_hello_that_no_server_would_take(self) -> None:
        with pytest.raises(ValueError, match="512"):
            _native.encode_hello(vocabulary_hash=HASH, agent="a" * 449)

    def test_arrays_that_differ_in_length(self) -> None:
        with pytest.raises(ValueError, match="differ in length"):
            _native.encode_block(1, 1, TOKENS, PARENTS[:2], PROBABILITIES)
        with pytest.raises(ValueError, match="differ in length"):
            _native.encode_verdict(
                tokens=TOKENS,
                logprobs=np.zeros(2, dtype=np.float32),
                finish=FinishReason.NONE,
                **VERDICT_FIELDS,
            )

    def test_a_prompt_over_the_limit(self) -> None:
        largest = (2**20 - 96 - 8) // 4
        tokens = np.zeros(largest + 1, dtype=np.int32)
        fields = OPEN_FIELDS | {"tokens": tokens[:largest]}
        assert len(_native.encode_open(1, **fields)) == 16 + 2**20
        with pytest.raises(ValueError, match="too long"):
            _native.encode_open(1, **(fields | {"tokens": tokens}))

    def test_numbers_that_do_not_fit(self) -> None:
        with pytest.raises(TypeError):
            _native.encode_close(70_000, FinishReason.NONE)
