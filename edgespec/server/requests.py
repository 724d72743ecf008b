"""What edges ask for on a session: to open it, another turn, other options. What they cannot have raises Refused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission
from edgespec.server.forwards import learn_cost
from edgespec.server.gate import VOID, Gate, device_name
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerDrafters, ServerSession
from edgespec.server.session_memory import SessionMemory
from edgespec.server.session_statistics import SessionStatistics
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]

DRAIN_RETRY_MS = 1000


class Requests:
    """Opens and instructs the sessions of one server. drafters: None where it hosts no draft."""

    def __init__(
        self,
        target: TargetEngine,
        loop: VerifyingLoop,
        gate: Gate,
        sessions: OpenSessions,
        admission: Admission,
        drafters: ServerDrafters | None,
    ) -> None:
        self._target = target
        self._loop = loop
        self._gate = gate
        self._sessions = sessions
        self._admission = admission
        self._drafters = drafters

    def open(self, number: int, opened: _native.Open) -> None:
        """A session under the listener's `number`."""
        if opened.latency_us:
            learn_cost(self._target, self._loop)
        if self._admission.full:
            self._sessions.make_room()
        if self._sessions.draining:
            raise Refused(_native.ErrorCode.DRAINING, "the server is being stopped", DRAIN_RETRY_MS)
        options = ServerOptions.from_wire(opened.options)
        asked_ms = opened.latency_us / 1e3 if opened.latency_us else None
        latency_ms = self._admission.admit(asked_ms, options.low_priority)
        self._check(opened, options)
        if (identity := self._gate.listener.identity(number)) is None:
            return  # its edge has ended it already
        if not self._gate.knows(identity):  # it came before the tokens were read again
            raise Refused(_native.ErrorCode.CREDENTIAL, VOID)
        session = self._session(number, device_name(identity) or number, opened, options, latency_ms)
        session.host_draft(self._drafters)
        self._admission.reserve_memory(session)
        self._sessions.add(session, identity)

    def append(self, session: ServerSession, append: _native.Append) -> None:
        """The session's next turn, or a halt."""
        verifier = session.verifier
        self.check_tokens(append.tokens)
        length = append.keep_length + len(append.tokens)
        if not 0 < append.keep_length <= len(verifier.text):
            raise Refused(
                _native.ErrorCode.PROTOCOL, f"cannot keep {append.keep_length} of {len(verifier.text)} tokens"
            )
        if length >= self._target.context_length:
            raise Refused(
                _native.ErrorCode.CONTEXT, f"the turn makes the text {length} tokens long, over the context"
            )
        if append.max_new_tokens:
            self._admission.reserve_memory(session, verifier.limits.slots(length + append.max_new_tokens))
        session.turn = append.turn
        tokens = append.tokens.tolist()
        self._loop.append(session.number, append.keep_length, tokens, append.max_new_tokens)
        if session.drafter is not None:
            session.drafter.append(append.keep_length, tokens, append.max_new_tokens)

    def set_options(self, session: ServerSession, tune: _native.Tune) -> None:
        self._loop.set_options(session.number, ServerOptions.from_wire(tune.options))
        session.host_draft(self._drafters)

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse ids that the target does not have."""
        if not self.are_tokens(tokens):
            raise Refused(
                _native.ErrorCode.PARAMETER, f"token ids must lie in 0 to {self._target.vocabulary_size - 1}"
            )

    def are_tokens(self, tokens: Tokens) -> bool:
        array = np.asarray(tokens)
        return not len(array) or 0 <= int(array.min()) <= int(array.max()) < self._target.vocabulary_size

    def _check(self, opened: _native.Open, options: ServerOptions) -> None:
        if options.server_draft == "required" and self._drafters is None:
            raise Refused(
                _native.ErrorCode.PARAMETER,
                "this server hosts no draft for mode 'colocated': start it with --colocated-draft",
            )
        self.check_tokens(opened.tokens)
        self.check_tokens([token for token, _ in opened.logit_bias])
        if not 0 < len(opened.tokens) < self._target.context_length:
            raise Refused(
                _native.ErrorCode.CONTEXT,
                f"the prompt has {len(opened.tokens)} tokens, and the target's context holds "
                f"{self._target.context_length}: shorten the prompt",
            )

    def _session(
        self,
        number: int,
        device: str | int,
        opened: _native.Open,
        options: ServerOptions,
        latency_ms: float | None,
    ) -> ServerSession:
        now_s = time.monotonic()
        end_tokens = () if opened.ignore_eos else self._target.end_tokens
        limits = VerifierLimits(self._target.context_length, end_tokens)
        verifier = Verifier(opened.tokens.tolist(), opened.max_new_tokens, options, limits)
        return ServerSession(
            VerifyingSession(number, device, verifier, now_s, latency_ms),
            _sampling_params(opened),
            opened.seed,
            SessionMemory(self._target.open_cache(verifier.slots.capacity), verifier),
            SessionStatistics(now_s, len(opened.tokens)),
        )


def _sampling_params(opened: _native.Open) -> SamplingParams:
    try:
        return SamplingParams(
            temperature=opened.temperature,
            top_k=opened.top_k,
            top_p=opened.top_p,
            min_p=opened.min_p,
            repetition_penalty=opened.repetition_penalty,
            logit_bias=dict(opened.logit_bias),
            seed=opened.seed,
            max_new_tokens=opened.max_new_tokens,
            ignore_eos=opened.ignore_eos,
            logprobs=opened.logprobs,
        )
    except EdgespecError as error:
        raise Refused(_native.ErrorCode.PARAMETER, str(error)) from None
