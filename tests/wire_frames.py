"""One frame of each type: its fields, and its bytes, which are written out from docs/wire-format.md, field by field;
nothing of the code under test makes them."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from edgespec import _native
from edgespec._native import COMMITTED_BIT, ErrorCode, FinishReason
from edgespec.core.server_options import ServerOptions

HASH = bytes(range(32))
SESSION_ID = bytes(range(100, 116))
OPTIONS = ServerOptions(
    fill=True, low_priority=True, server_draft="lent", hint_threshold=0.5, max_wait_ms=1.5
)
TUNED = ServerOptions(prompt_lookup=True, hint_threshold=0.25, server_draft="required", max_wait_ms=2.0)


class Case(NamedTuple):
    """A message that `encode_<name>` makes. channel: 0, the connection's."""

    name: str
    kind: int
    channel: int
    fields: dict[str, Any]
    payload: bytes

    @property
    def frame(self) -> bytes:
        return framed(self.kind, self.channel, self.payload)

    def encoded(self, **changes: Any) -> bytes:
        channel = {"channel": self.channel} if self.channel else {}
        frame: bytes = getattr(_native, f"encode_{self.name}")(**channel, **{**self.fields, **changes})
        return frame


def framed(kind: int, channel: int, payload: bytes, flags: int = 0) -> bytes:
    """A whole frame, as the page says it."""
    header = struct.pack("<IBBHII", len(payload), kind, flags, channel, 0, 0)
    return header + payload + bytes(-len(payload) % 8)


def read_back(message: Any) -> dict[str, Any]:
    """A message's fields, its arrays as lists."""
    names = [name for name in dir(message) if not name.startswith("_")]
    return {name: plain(getattr(message, name)) for name in names}


def plain(value: Any) -> Any:
    if isinstance(value, _native.ServerOptions):
        return ServerOptions.from_wire(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


VERDICT = {
    **{"base_length": 4, "forwards": 5, "forward_us": 6, "clock_us": 7, "rows": 8, "row_price": 3, "turn": 2},
    **{"top_tokens": ids(), "top_logprobs": None},
}

# fmt: off
CASES = {
    "hello": Case("hello", 1, 0, {
        "version_min": 1, "version_max": 1, "features": 5, "vocabulary_hash": HASH, "agent": "me",
        "credential": b"key",
    }, b"EDGS" + struct.pack("<HHIHH", 1, 1, 5, 2, 3) + HASH + b"me" + b"key"),
    "welcome": Case("welcome", 2, 0, {
        "version": 1, "layers": 12, "hosts_draft": True, "shared_memory": True, "context_length": 2048,
        "vocabulary_size": 4096, "max_frame_bytes": 65536, "max_block_nodes": 1024, "vocabulary_hash": HASH,
        "tokenizer_hash": HASH[::-1], "end_tokens": [0, 9], "exit_layers": [3, 6, 9], "target_id": "target",
        "sampling": b"{}", "pictures": b'{"cell":28}',
    }, struct.pack("<HHIIIIIHHHH", 1, 12, 1 | 2, 2048, 4096, 65536, 1024, 2, 3, 6, 2) + HASH + HASH[::-1]
        + struct.pack("<2i3H6s4xHHI", 0, 9, 3, 6, 9, b"target", 1, 0, 2) + b"{}" + bytes(6)
        + struct.pack("<HHI", 2, 0, 11) + b'{"cell":28}'),
    "open": Case("open", 3, 7, {
        "session_id": SESSION_ID, "temperature": 0.75, "top_p": 0.5, "min_p": 0.25, "repetition_penalty": 1.5,
        "seed": 0x0123456789ABCDEF, "top_k": 40, "max_new_tokens": 64, "options": OPTIONS.to_wire(),
        "logprobs": True, "ignore_eos": False, "shared_memory": True, "latency_us": 0x01020304, "tokens": ids(1, 2, 3),
        "logit_bias": [(7, -1.5)], "sampling": b'{"min_tokens":2}',
        "pictures": b"picture",
    }, SESSION_ID + struct.pack("<ddddQ", 0.75, 0.5, 0.25, 1.5, 0x0123456789ABCDEF)
        + struct.pack("<IIIfIIIIHHI", 40, 64, 1 | 2 | 8 | 16, 0.5, 1500, 0, 3, 1, 2, 1 | 4, 0x01020304)
        + struct.pack("<3iif4xHHI", 1, 2, 3, 7, -1.5, 1, 0, 16) + b'{"min_tokens":2}'
        + struct.pack("<HHI", 2, 0, 7) + b"picture"),
    "append": Case("append", 4, 7, {
        "keep_length": 10, "max_new_tokens": 20, "turn": 3, "tokens": ids(5, 6), "pictures": b"picture",
    }, struct.pack("<IIIHH2iHHI", 10, 20, 2, 3, 1, 5, 6, 2, 0, 7) + b"picture"),
    "block": Case("block", 5, 7, {
        "first_node": 11, "tokens": ids(5, 6, 7),
        "parents": np.array([COMMITTED_BIT | 4, 11, 11], dtype=np.uint32),
        "probabilities": np.array([255, 128, 3], dtype=np.uint8),
    }, struct.pack("<IHH3i3I", 11, 3, 0, 5, 6, 7, COMMITTED_BIT | 4, 11, 11) + bytes([255, 128, 3])),
    "hint": Case("hint", 6, 7, {
        "base_length": 4, "node": 11, "token": 9, "confidence": 0.5, "layer": 6, "turn": 2, "clock_us": 0xFFFFFFFF,
    }, struct.pack("<IIifHHI", 4, 11, 9, 0.5, 6, 2, 0xFFFFFFFF)),
    "verdict": Case("verdict", 7, 7, {
        **VERDICT, "finish": FinishReason.STOP, "tokens": ids(9, 10),
        "logprobs": np.array([-0.5, -2.0], dtype=np.float32),
    }, struct.pack("<IIIIBBHHBB2i2f", 4, 5, 6, 7, 8, 3, 2, 2, 1, 1, 9, 10, -0.5, -2.0)),
    "verdict with the likeliest tokens": Case("verdict", 7, 7, {
        **VERDICT, "finish": FinishReason.NONE, "tokens": ids(9, 10),
        "logprobs": np.array([-0.5, -2.0], dtype=np.float32), "top_tokens": ids(9, 4, 5, 10),
        "top_logprobs": np.array([-0.5, -1.0, -0.25, -2.0], dtype=np.float32),
    }, struct.pack("<IIIIBBHHBB2i2f4i4f", 4, 5, 6, 7, 8, 3, 2, 2, 0, 1 | 2 << 3, 9, 10, -0.5, -2.0, 9, 4, 5, 10,
                   -0.5, -1.0, -0.25, -2.0)),
    "verdict without log-probabilities": Case("verdict", 7, 7, {
        **VERDICT, "finish": FinishReason.NONE, "tokens": ids(9), "logprobs": None,
    }, struct.pack("<IIIIBBHHBBi", 4, 5, 6, 7, 8, 3, 2, 1, 0, 0, 9)),
    "resume": Case("resume", 9, 7, {"session_id": SESSION_ID, "last_sequence": 77},
                   SESSION_ID + struct.pack("<II", 77, 0)),
    "close": Case("close", 10, 7, {"reason": FinishReason.CANCELLED}, bytes([3]) + bytes(7)),
    "goaway": Case("goaway", 13, 0, {"retry_after_ms": 500, "message": "bye"}, struct.pack("<II", 500, 3) + b"bye"),
    "error": Case("error", 14, 7, {
        "code": ErrorCode.OVERLOADED, "retryable": True, "retry_after_ms": 250, "message": "full",
    }, struct.pack("<HBBIII", 8, 1, 0, 250, 4, 0) + b"full"),
    "fetch": Case("fetch", 16, 0, {"tokenizer_hash": HASH, "first_byte": 60_000},
                  HASH + struct.pack("<II", 60_000, 0)),
    "file": Case("file", 17, 0, {"first_byte": 60_000, "total_bytes": 60_003, "content": b"end"},
                 struct.pack("<IIII", 60_000, 60_003, 3, 0) + b"end"),
    "tune": Case("tune", 15, 7, {"options": TUNED.to_wire()}, struct.pack("<IfII", 2 | 4 | 32, 0.25, 2000, 0)),
}
# fmt: on
