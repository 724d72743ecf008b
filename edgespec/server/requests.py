"""What arrives at a server: each message goes to the gate or to its session, in its order.

What an edge cannot have raises Refused. A message that fails ends whoever sent it, and nobody else.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from edgespec import _native
from edgespec.core.messages import Block
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission
from edgespec.server.gate import Gate
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.opening import Opening
from edgespec.server.pictures import Pictures, check_kept
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerDrafters, ServerSession
from edgespec.server.token_ids import are_tokens, check_tokens
from edgespec.verifying.received_tree import BadBlock

log = logging.getLogger("edgespec.server")

Code = _native.ErrorCode


@dataclass(frozen=True)
class Requests:
    """Instructs the sessions of one server. drafters: None where it hosts no draft."""

    target: TargetEngine
    opening: Opening
    gate: Gate
    sessions: OpenSessions
    admission: Admission
    drafters: ServerDrafters | None
    pictures: Pictures

    def take(self, batch: _native.Batch) -> None:
        """All that happened since the last batch; a batch has its blocks last."""
        for number, message in batch.others:
            try:
                self._dispatch(number, message)
            except Exception as error:
                self._refuse(number, error, getattr(message, "channel", 0))
        if len(batch.numbers):
            self._take_blocks(batch)

    def _dispatch(self, number: int, message: Any) -> None:
        """Connections and sessions are numbered in one row."""
        if number in self.gate or isinstance(message, _native.Connected):
            self.gate.receive(number, message)
            return
        session = self.sessions.table.get(number)
        if session is None:
            if isinstance(message, _native.Open):
                self.opening.open(number, message)
            else:
                log.debug("a %s came for a session that has ended", type(message).__name__)
        elif isinstance(message, _native.Append):
            self._append(session, message)
        elif isinstance(message, _native.Tune):
            session.verifier.options = ServerOptions.from_wire(message.options)
            session.host_draft(self.drafters)
        elif isinstance(message, _native.Away):
            self.sessions.away(session, time.monotonic())
        elif isinstance(message, _native.Returned):
            session.state.set_away(None)
        elif isinstance(message, _native.Disconnected):
            self.sessions.end(number, message.reason)
        elif isinstance(message, _native.Close):
            self.sessions.end(number, "closed")
        else:
            raise Refused(Code.PROTOCOL, f"a session takes no {type(message).__name__}")

    def _take_blocks(self, batch: _native.Batch) -> None:
        """The blocks of all sessions: numpy converts them once for all."""
        now_s = time.monotonic()
        all_tokens = are_tokens(batch.nodes["token"], self.target.vocabulary_size)
        tokens, parents = batch.nodes["token"].tolist(), batch.nodes["parent"].tolist()
        probabilities = (batch.nodes["probability"] / 255.0).tolist()
        offsets = batch.offsets.tolist()
        starts = batch.numbers.tolist(), batch.first_nodes.tolist(), batch.following.tolist(), offsets
        for number, first_node, following, start, end in zip(*starts, offsets[1:], strict=False):
            nodes = slice(start, end)
            block = Block(first_node, tokens[nodes], parents[nodes], probabilities[nodes], following)
            try:
                if number in self.gate:
                    self.gate.receive(number, block)
                elif number in self.sessions.table:
                    if not all_tokens:
                        check_tokens(block.tokens, self.target.vocabulary_size)
                    self.sessions.table[number].state.receive(block, now_s)
            except Exception as error:
                self._refuse(number, error)

    def _refuse(self, number: int, error: Exception, channel: int = 0) -> None:
        if isinstance(error, BadBlock):
            error = Refused(Code.PROTOCOL, str(error))
        if not isinstance(error, Refused):
            log.error("a message could not be taken in", exc_info=error)
            error = Refused.internal("server", error)
        self.sessions.refuse(number, error, channel)

    # APPEND

    def _append(self, session: ServerSession, append: _native.Append) -> None:
        """The session's next turn, or a halt."""
        verifier = session.verifier
        check_tokens(append.tokens, self.target.vocabulary_size)
        length = append.keep_length + len(append.tokens)
        if not 0 < append.keep_length <= len(verifier.text):
            raise Refused(Code.PROTOCOL, f"cannot keep {append.keep_length} of {len(verifier.text)} tokens")
        if length >= self.target.context_length:
            raise Refused(Code.CONTEXT, f"the turn makes the text {length} tokens long, over the context")
        check_kept(session, append.keep_length)
        kept = [one for one in session.pictures if one.span.end <= append.keep_length]
        pictures = self.pictures.check(
            append.pictures,
            (session.identity, session.holder),
            append.tokens,
            append.keep_length,
            len(kept),
        )
        if append.max_new_tokens:
            self.admission.reserve_memory(session, verifier.limits.slots(length + append.max_new_tokens))
        session.turn_ends(append.keep_length)
        session.turn = append.turn
        turn = append.keep_length, append.tokens.tolist(), append.max_new_tokens
        session.pictures[:] = kept
        verifier.append(*turn)
        self.pictures.place(session, pictures)
        if session.drafter is not None:
            session.drafter.leave_out(session.spans)
            session.drafter.append(*turn)
