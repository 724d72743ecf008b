"""Frames that nobody should send: refused, or read, and never worse."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_frames import CASES, framed, read_back

from edgespec import _native
from edgespec._native import COMMITTED_BIT

FRAMES = [case.frame for case in CASES.values()]
HELLO, OPEN, BLOCK = CASES["hello"], CASES["open"], CASES["block"]


class TestHostileFrames:
    def test_a_frame_cut_short_anywhere_is_refused(self) -> None:
        for frame in FRAMES:
            for length in range(len(frame)):
                with pytest.raises(_native.BadFrame):
                    _native.decode(frame[:length])

    def test_a_payload_that_ends_early_is_refused(self) -> None:
        for frame in FRAMES:
            payload_bytes, kind, _, channel = struct.unpack_from("<IBBH", frame)
            for length in range(payload_bytes):
                with pytest.raises(_native.BadFrame):
                    _native.decode(framed(kind, channel, frame[16 : 16 + length]))

    def test_a_payload_that_is_too_long_is_refused(self) -> None:
        for frame in FRAMES:
            payload_bytes, kind, _, channel = struct.unpack_from("<IBBH", frame)
            with pytest.raises(_native.BadFrame):
                _native.decode(framed(kind, channel, frame[16 : 16 + payload_bytes] + b"\0"))

    @pytest.mark.parametrize("payload_bytes", [2**20 + 1, 2**31, 2**32 - 1])
    def test_a_length_over_the_limit_is_refused_before_it_is_waited_for(self, payload_bytes: int) -> None:
        with pytest.raises(_native.BadFrame, match="over the limit of 1048576"):
            _native.decode(struct.pack("<IBBHII", payload_bytes, 5, 0, 1, 0, 0))

    @pytest.mark.parametrize("kind", [0, 18, 255])
    def test_an_unknown_type_is_refused(self, kind: int) -> None:
        with pytest.raises(_native.BadFrame, match="unknown type"):
            _native.decode(framed(kind, 0, b""))

    @pytest.mark.parametrize(
        ("payload", "why"),
        [
            (b"HTTP" + HELLO.payload[4:], "not an edgespec HELLO"),
            (HELLO.payload[:12] + struct.pack("<HH", 65535, 3) + HELLO.payload[16:], "shorter than"),
        ],
    )
    def test_a_hello_that_is_none(self, payload: bytes, why: str) -> None:
        with pytest.raises(_native.BadFrame, match=why):
            _native.decode(framed(1, 0, payload))

    @pytest.mark.parametrize("count", [4, 65535])
    def test_a_block_that_claims_more_nodes_than_it_has(self, count: int) -> None:
        payload = struct.pack("<IHH", 11, count, 0) + BLOCK.payload[8:]
        with pytest.raises(_native.BadFrame):
            _native.decode(framed(5, 7, payload))

    def test_an_open_that_claims_more_tokens_than_memory_has(self) -> None:
        payload = bytearray(OPEN.payload)
        struct.pack_into("<I", payload, 80, 2**32 - 1)
        with pytest.raises(_native.BadFrame, match="longer than its frame"):
            _native.decode(framed(3, 7, bytes(payload)))

    @pytest.mark.parametrize(
        ("at", "kind", "value", "why"),
        [
            (68, "<f", math.nan, "hint threshold"),
        ],
    )
    def test_an_open_whose_parameters_are_nonsense(self, at: int, kind: str, value: float, why: str) -> None:
        payload = bytearray(OPEN.payload)
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

    @given(st.sampled_from(sorted(CASES)), st.data())
    def test_a_flipped_byte_is_refused_or_read_but_never_worse(self, name: str, data: st.DataObject) -> None:
        frame = bytearray(CASES[name].frame)
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

    @staticmethod
    def opened(kind: int, flags: int) -> bytes:
        """An OPEN with another section behind those of sampling parameters and pictures."""
        payload = bytearray(OPEN.payload)
        struct.pack_into("<H", payload, 88, 3)
        payload += bytes(-len(payload) % 8) + struct.pack("<HHI", kind, flags, 3) + b"abc"
        return framed(3, 7, bytes(payload))

    def test_an_open_may_have_further_sections(self) -> None:
        message = _native.decode(self.opened(9, 1))
        assert isinstance(message, _native.Open)
        assert message.tokens.tolist() == [1, 2, 3] and message.sampling == b'{"min_tokens":2}'

    def test_a_section_that_comes_twice_is_refused(self) -> None:
        with pytest.raises(_native.BadFrame, match="section twice"):
            _native.decode(self.opened(1, 1))

    def test_a_section_longer_than_its_frame_is_refused(self) -> None:
        frame = bytearray(self.block((1, 1, b"abc")))
        struct.pack_into("<I", frame, 16 + 24 + 4, 2**31)
        with pytest.raises(_native.BadFrame, match="shorter than"):
            _native.decode(bytes(frame))
