"""What arrives at a server: each message goes to the gate, the requests or the verifying loop, in its order.

A message that fails ends whoever sent it, and nobody else.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from edgespec import _native
from edgespec.core.messages import Block
from edgespec.server.gate import Gate
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.refusal import Refused
from edgespec.server.requests import Requests
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.received_tree import BadBlock

log = logging.getLogger("edgespec.server")


class Incoming:
    def __init__(self, loop: VerifyingLoop, gate: Gate, sessions: OpenSessions, requests: Requests) -> None:
        self._loop = loop
        self._gate = gate
        self._sessions = sessions
        self._requests = requests

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
        if number in self._gate or isinstance(message, _native.Connected):
            self._gate.receive(number, message)
            return
        session = self._sessions.table.get(number)
        if session is None:
            if isinstance(message, _native.Open):
                self._requests.open(number, message)
            else:
                log.debug("a %s came for a session that has ended", type(message).__name__)
        elif isinstance(message, _native.Append):
            self._requests.append(session, message)
        elif isinstance(message, _native.Tune):
            self._requests.set_options(session, message)
        elif isinstance(message, _native.Away):
            self._sessions.away(number)
        elif isinstance(message, _native.Returned):
            self._sessions.returned(number)
        elif isinstance(message, _native.Disconnected):
            self._sessions.end(number, message.reason)
        elif isinstance(message, _native.Close):
            self._sessions.end(number, "closed")
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, f"a session takes no {type(message).__name__}")

    def _take_blocks(self, batch: _native.Batch) -> None:
        """The blocks of all sessions: numpy converts them once for all."""
        now_s = time.monotonic()
        all_tokens = self._requests.are_tokens(batch.nodes["token"])
        tokens, parents = batch.nodes["token"].tolist(), batch.nodes["parent"].tolist()
        probabilities = (batch.nodes["probability"] / 255.0).tolist()
        offsets = batch.offsets.tolist()
        blocks = zip(batch.numbers.tolist(), batch.first_nodes.tolist(), offsets, offsets[1:], strict=False)
        for number, first_node, start, end in blocks:
            block = Block(first_node, tokens[start:end], parents[start:end], probabilities[start:end])
            try:
                if number in self._gate:
                    self._gate.receive(number, block)
                elif number in self._sessions.table:
                    if not all_tokens:
                        self._requests.check_tokens(block.tokens)
                    self._loop.receive(number, block, now_s)
            except Exception as error:
                self._refuse(number, error)

    def _refuse(self, number: int, error: Exception, channel: int = 0) -> None:
        if isinstance(error, BadBlock):
            error = Refused(_native.ErrorCode.PROTOCOL, str(error))
        if not isinstance(error, Refused):
            log.error("a message could not be taken in", exc_info=error)
            error = Refused.internal("server", error)
        self._sessions.refuse(number, error, channel)
