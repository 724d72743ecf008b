"""The wire format: golden bytes of every frame that Python encodes, round trips, views; and what encoders refuse."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import raw_peer
from hypothesis import given
from hypothesis import strategies as st
from wire_frames import CASES, HASH, VERDICT, plain, read_back

from edgespec import _native
from edgespec._native import COMMITTED_BIT, ErrorCode, FinishReason
from edgespec.core.server_options import ServerOptions

BLOCK = CASES["block"]


@pytest.mark.parametrize("name", CASES)
def test_a_frame_has_its_golden_bytes_and_every_field_is_read_back(name: str) -> None:
    case = CASES[name]
    assert case.encoded().hex() == case.frame.hex()
    fields = {field: plain(value) for field, value in case.fields.items()}
    assert read_back(_native.decode(case.frame)) == {"channel": case.channel, **fields}


def test_a_hello_in_plain_hexadecimal() -> None:
    assert _native.encode_hello(vocabulary_hash=HASH, agent="e").hex() == (
        "31000000" "01" "00" "0000" "00000000" "00000000"  # 49 bytes, HELLO
        "45444753" "0100" "0100" "00000000" "0100" "0000"  # EDGS, versions, features, lengths
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "65" "00000000000000"  # the agent, padding
    )  # fmt: skip


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

    @given(channels, u32, u32, ids, u16, st.binary(max_size=40))
    def test_append(
        self, channel: int, keep: int, limit: int, tokens: list[int], turn: int, pictures: bytes
    ) -> None:
        fields = {"keep_length": keep, "max_new_tokens": limit, "turn": turn, "pictures": pictures}
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
                "shared_memory": st.booleans(),
                "latency_us": st.integers(0, 2**32 - 1),
                "session_id": st.binary(min_size=16, max_size=16),
                "sampling": st.binary(max_size=40),
                "pictures": st.binary(max_size=40),
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
        frame = _native.encode_verdict(
            channel, tokens=tokens, logprobs=logprobs, finish=FinishReason.LENGTH, **VERDICT
        )
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
        message = _native.decode(_native.encode_error(0, ErrorCode.LIMIT, False, retry_after_ms, text))
        assert isinstance(message, _native.Error)
        assert (message.message, message.retry_after_ms, message.retryable) == (text, retry_after_ms, False)


class TestViews:
    def test_arrays_are_read_only_and_view_one_buffer(self) -> None:
        message = _native.decode(BLOCK.frame)
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
        message = _native.decode(BLOCK.frame)
        before = sys.getrefcount(message)
        view = message.tokens  # type: ignore[union-attr]
        assert sys.getrefcount(message) == before + 1
        del message
        gc.collect()
        assert view.tolist() == [5, 6, 7]
        message = view.base
        del view
        assert sys.getrefcount(message) == before


class TestEncodersRefuse:
    def test_hashes_and_ids_of_another_length(self) -> None:
        with pytest.raises(ValueError, match="vocabulary_hash must have 32 bytes"):
            CASES["hello"].encoded(vocabulary_hash=b"short")
        with pytest.raises(ValueError, match="session_id must have 16 bytes"):
            CASES["resume"].encoded(session_id=b"short")

    def test_a_hello_that_no_server_would_take(self) -> None:
        with pytest.raises(ValueError, match="512"):
            _native.encode_hello(vocabulary_hash=HASH, agent="a" * 449)

    @pytest.mark.parametrize(("name", "field"), [("block", "parents"), ("verdict", "logprobs")])
    def test_arrays_that_differ_in_length(self, name: str, field: str) -> None:
        with pytest.raises(ValueError, match="differ in length"):
            CASES[name].encoded(**{field: CASES[name].fields[field][:1]})

    @pytest.mark.parametrize(
        ("tokens", "top"),
        [([9, 10], [1, 2, 3]), ([], [1]), ([9], list(range(21))), ([9, 10], list(range(42)))],
    )
    def test_likeliest_tokens_that_are_too_many_or_not_the_same_number(
        self, tokens: list[int], top: list[int]
    ) -> None:
        case, logprobs = CASES["verdict"], np.zeros(len(top), np.float32)
        arrays = {"tokens": np.array(tokens, np.int32), "top_tokens": np.array(top, np.int32)}
        with pytest.raises(ValueError, match="20 at most"):
            case.encoded(**arrays, logprobs=None, top_logprobs=logprobs)
        with pytest.raises(ValueError, match="differ in length"):
            case.encoded(**arrays, logprobs=None, top_logprobs=logprobs[:-1])

    def test_a_prompt_over_the_limit(self) -> None:
        largest = (2**20 - 96 - 8) // 4
        tokens = np.zeros(largest + 1, dtype=np.int32)
        assert len(CASES["open"].encoded(tokens=tokens[:largest], sampling=b"", pictures=b"")) == 16 + 2**20
        with pytest.raises(ValueError, match="too long"):
            CASES["open"].encoded(tokens=tokens, sampling=b"", pictures=b"")

    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            ("close", {"reason": "stop"}, "reason is of another type"),
            ("append", {"turn": 70_000}, "turn is of another type, or does not fit"),
            ("hello", {"greeting": "hi"}, "no such field"),
            ("append", {"tokens": np.zeros((2, 2), np.int32)}, "tokens must have one dimension"),
            ("hint", {"confidence": 1.5}, "a confidence lies outside 0 to 1"),
        ],
    )
    def test_fields_that_do_not_fit_are_named(self, name: str, changes: dict[str, Any], message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            CASES[name].encoded(**changes)

    def test_a_channel_that_does_not_fit(self) -> None:
        with pytest.raises(TypeError):
            _native.encode_close(70_000, FinishReason.NONE)
