"""The frames that a server sends: from the verifying loop's messages to bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec import _native
from edgespec.core.messages import Hint, Verdict
from edgespec.model.target_engine import TargetEngine, TopTokens
from edgespec.verifying.received_tree import MAX_WAITING_NODES

MAX_FRAME_BYTES = 1 << 16

CHANNEL = 1
"""Any: the listener fills in the channel that a session has on its connection."""


def welcome_frame(
    target: TargetEngine,
    hosts_draft: bool,
    tokenizer_hash: bytes,
    sampling_defaults: Mapping[str, Any],
    shared_memory: bool = False,
) -> bytes:
    return _native.encode_welcome(
        version=_native.PROTOCOL_VERSION,
        hosts_draft=hosts_draft,
        shared_memory=shared_memory,
        vocabulary_hash=target.vocabulary_hash,
        tokenizer_hash=tokenizer_hash,
        sampling=json.dumps(dict(sampling_defaults)).encode() if sampling_defaults else b"",
        context_length=target.context_length,
        vocabulary_size=target.vocabulary_size,
        layers=target.layers,
        exit_layers=list(target.exit_layers),
        end_tokens=list(target.end_tokens),
        target_id=target.target_id,
        max_frame_bytes=MAX_FRAME_BYTES,
        max_block_nodes=MAX_WAITING_NODES,
        pictures=b"" if target.picture_format is None else target.picture_format.to_json(),
    )


def hint_frame(hint: Hint, turn: int) -> bytes:
    return _native.encode_hint(
        CHANNEL,
        base_length=hint.base_length,
        node=hint.reference,
        token=hint.token,
        confidence=hint.confidence,
        layer=hint.layer,
        clock_us=_clock_us(),
        turn=turn,
    )


def verdict_frame(
    verdict: Verdict, turn: int, logprobs: NDArray[np.float32] | None = None, top: TopTokens | None = None
) -> bytes:
    """logprobs: of its tokens, and top: the likeliest at their positions, where the session asked for them."""
    return _native.encode_verdict(
        CHANNEL,
        base_length=verdict.base_length,
        tokens=np.array(verdict.tokens, dtype=np.int32),
        logprobs=logprobs,
        top_tokens=None if top is None else top.tokens.ravel(),
        top_logprobs=None if top is None else top.logprobs.ravel(),
        finish=getattr(_native.FinishReason, (verdict.finish or "none").upper()),
        forwards=verdict.forwards,
        rows=min(verdict.rows, 255),
        row_price=round(verdict.row_price * 255),
        forward_us=round(verdict.forward_ms * 1e3),
        clock_us=round(verdict.ended_ms * 1e3) % 2**32,
        turn=turn,
    )


def _clock_us() -> int:
    return time.monotonic_ns() // 1000 % 2**32
