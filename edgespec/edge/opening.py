"""The OPEN frame of a session: everything that a server must know to begin it, or to go on with it."""

import secrets
from collections.abc import Sequence

import numpy as np

from edgespec import _native
from edgespec.core import sampling_section
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions

CHANNEL = 1
"""Any: the native connection fills in the channel that the session has on each of its connections."""


def encoded_open(
    params: SamplingParams,
    seed: int,
    options: ServerOptions,
    tokens: Sequence[int],
    max_new_tokens: int,
    latency_ms: float | None = None,
    generated: int = 0,
    pictures: bytes = b"",
    shared_memory: bool = False,
) -> bytes:
    """An OPEN under a new session id. generated: the last tokens that are this turn's own text already. pictures: their
    section. shared_memory: the server may remember the text, and look it up."""
    return _native.encode_open(
        CHANNEL,
        session_id=secrets.token_bytes(16),
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        seed=seed,
        max_new_tokens=max_new_tokens,
        logprobs=params.logprobs,
        ignore_eos=params.ignore_eos,
        options=options.to_wire(),
        latency_us=0 if latency_ms is None else max(1, round(latency_ms * 1e3)),
        logit_bias=list(params.logit_bias.items()),
        tokens=np.array(tokens, dtype=np.int32),
        sampling=sampling_section.encode(params, generated),
        pictures=pictures,
        shared_memory=shared_memory,
    )
