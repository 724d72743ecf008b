"""What edges ask for on a session: to open it, another turn, other settings. What they cannot have raises Refused.

The server's loop (server.py) hands each message here in its order; what was granted is then run by forwards.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission, Overloaded
from edgespec.server.gate import VOID, Gate, device_name
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerDrafters, ServerSession
from edgespec.server.session_table import SessionTable

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]

MAX_FRAME_BYTES = 1 << 16
MAX_BLOCK_NODES = 1024
DRAIN_RETRY_MS = 1000


@dataclass(frozen=True)
class Promises:
    """What a server promises of the time that a token takes. latency_ms: to sessions that ask for nothing;
    least_latency_ms: to those that ask, at the least; else `latency_ms`."""

    latency_ms: float | None = None
    least_latency_ms: float | None = None

    def target_ms(self, opened: _native.Open) -> float | None:
        """What is promised to this session; None: nothing. Raises Refused."""
        if not opened.latency_us:
            return None if ServerOptions.from_wire(opened.options).low_priority else self.latency_ms
        asked_ms = opened.latency_us / 1e3
        least_ms = self.latency_ms if self.least_latency_ms is None else self.least_latency_ms
        if least_ms is not None and asked_ms < least_ms:
            raise Refused(
                _native.ErrorCode.PARAMETER,
                f"this server promises {least_ms:g} ms a token at the least, not {asked_ms:g}: ask for more",
            )
        return asked_ms


class Requests:
    """Opens and instructs the sessions of one server. forget: ends a session by its number, with the reason."""

    def __init__(
        self,
        target: TargetEngine,
        sessions: SessionTable[ServerSession],
        gate: Gate,
        admission: Admission,
        forget: Callable[[int, str], None],
        server_drafters: ServerDrafters | None,
        metrics: Metrics | None,
        promises: Promises,
    ) -> None:
        self._target = target
        self._sessions = sessions
        self._gate = gate
        self._admission = admission
        self._forget = forget
        self._server_drafters = server_drafters
        self._metrics = metrics
        self._promises = promises

    @property
    def welcome(self) -> bytes:
        """The WELCOME of whoever says HELLO."""
        target = self._target
        return _native.encode_welcome(
            version=_native.PROTOCOL_VERSION,
            features=0 if self._server_drafters is None else _native.HOSTS_DRAFT,
            vocabulary_hash=target.vocabulary_hash,
            context_length=target.context_length,
            vocabulary_size=target.vocabulary_size,
            layers=target.layers,
            exit_layers=list(target.exit_layers),
            end_tokens=list(target.end_tokens),
            target_id=target.target_id,
            max_frame_bytes=MAX_FRAME_BYTES,
            max_block_nodes=MAX_BLOCK_NODES,
        )

    def open(self, number: int, opened: _native.Open, draining: bool) -> None:
        """A session under the listener's `number`; draining: the server takes none any more."""
        if self._admission.full and (away := self._sessions.longest_away()) is not None:
            self._forget(away, "another session needs its room")
        if draining:
            raise Refused(
                _native.ErrorCode.DRAINING,
                "the server is being stopped",
                retryable=True,
                retry_after_ms=DRAIN_RETRY_MS,
            )
        latency_ms = self._promises.target_ms(opened)
        self._admit(lambda: self._admission.check(latency_ms, own=bool(opened.latency_us)))
        self._check(opened)
        if (identity := self._gate.listener.identity(number)) is None:
            return  # its edge has ended it already
        if not self._gate.knows(identity):  # it came before the tokens were read again
            raise Refused(_native.ErrorCode.CREDENTIAL, VOID)
        try:
            session = ServerSession(
                number,
                device_name(identity) or number,
                opened,
                context_length=self._target.context_length,
                end_tokens=self._target.end_tokens,
                open_cache=self._target.open_cache,
                latency_ms=latency_ms,
            )
        except EdgespecError as error:
            raise Refused(_native.ErrorCode.PARAMETER, str(error)) from None
        self._choose_drafter(session)
        self._admit(lambda: self._admission.hold(session))
        self._sessions.add(number, identity, session)
        if self._metrics is not None:
            self._metrics.saw_open(session.tally.prompt_tokens, session.tally.adopted)

    def _check(self, opened: _native.Open) -> None:
        options = ServerOptions.from_wire(opened.options)
        if options.server_draft == "required" and self._server_drafters is None:
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

    def _admit(self, ask: Callable[[], None]) -> None:
        """Ask the admission; an Overloaded becomes a refusal."""
        try:
            ask()
        except Overloaded as full:
            raise Refused(
                _native.ErrorCode.OVERLOADED, full.message, retryable=True, retry_after_ms=full.retry_after_ms
            ) from None

    def instruct(self, session: ServerSession, message: Any) -> None:
        """An APPEND or a TUNE."""
        if isinstance(message, _native.Append):
            self._append(session, message)
        elif isinstance(message, _native.Tune):
            session.verifier.options = ServerOptions.from_wire(message.options)
            self._choose_drafter(session)
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, f"a session takes no {type(message).__name__}")

    def _choose_drafter(self, session: ServerSession) -> None:
        """The server drafts for a session that asks for it, where it hosts a draft."""
        if session.verifier.options.server_draft == "off":
            session.draft_elsewhere()
        elif self._server_drafters is not None:
            session.draft_here(self._server_drafters)

    def _append(self, session: ServerSession, append: _native.Append) -> None:
        text = session.verifier.text
        self.check_tokens(append.tokens)
        length = append.keep_length + len(append.tokens)
        if not 0 < append.keep_length <= len(text):
            raise Refused(
                _native.ErrorCode.PROTOCOL, f"cannot keep {append.keep_length} of {len(text)} tokens"
            )
        if length >= self._target.context_length:
            raise Refused(
                _native.ErrorCode.CONTEXT, f"the turn makes the text {length} tokens long, over the context"
            )
        if append.max_new_tokens:
            need = session.need(length, append.max_new_tokens)
            self._admit(lambda: self._admission.hold(session, need))
        session.turn = append.turn
        tokens = append.tokens.tolist()
        session.verifier.append(append.keep_length, tokens, append.max_new_tokens)
        if session.server_drafter is not None:
            session.server_drafter.append(append.keep_length, tokens, append.max_new_tokens)

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse ids that the target does not have."""
        if not self.are_tokens(tokens):
            raise Refused(
                _native.ErrorCode.PARAMETER, f"token ids must lie in 0 to {self._target.vocabulary_size - 1}"
            )

    def are_tokens(self, tokens: Tokens) -> bool:
        array = np.asarray(tokens)
        return not len(array) or 0 <= int(array.min()) <= int(array.max()) < self._target.vocabulary_size
