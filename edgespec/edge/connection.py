"""The session's link to its servers: frames go up, messages come down, and what happens to the link is mended here.

The resilient connection (csrc/net/resilient connection.hpp) keeps connections alive, hedges and resumes, all in C++. What needs the session's own
record is done here: when a server has forgotten the session it is opened anew, with the text so far as its prompt.
The noise depends on absolute positions, so the text goes on as if nothing had happened. `notes` says what did.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.edge.handshake import Address, connect, explain
from edgespec.edge.link_options import LinkOptions

CHANNEL = 1
"""Any: the resilient connection fills in the channel that the session has on each of its connections."""


class Uplink:
    """One session's link. `opening` gives an OPEN whenever a server has to be told everything (see `encoded_open`).

    target: the WELCOME of the first server; hosts_draft: the newest server has one to lend.
    notes: what happened since they were last taken, in words.
    offline: there has been no server for `offline_after_s`; writing: the draft goes on meanwhile, and nobody is told
    that there is none.
    """

    def __init__(
        self,
        servers: Sequence[Address],
        vocabulary_hash: bytes,
        options: LinkOptions,
        opening: Callable[[], bytes],
    ) -> None:
        self._servers = servers
        self._options = options
        self._opening = opening
        self._resilient_connection, self.target = connect(servers, vocabulary_hash, options)
        self.hosts_draft = self.target.hosts_draft
        self.notes: list[str] = []
        self.offline = self.writing = False
        self.losses = 0
        self._refusals = 0
        self._leaving: Address | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            _native.Welcome: self._welcomed,
            _native.Lost: self._lost,
            _native.Offline: self._gone_offline,
            _native.Reconnected: self._reconnected,
            _native.Forgotten: self._forgotten,
            _native.GivenUp: self._given_up,
            _native.Goaway: self._sent_away,
            _native.Error: self._refused,
            _native.Verdict: self._served,
        }

    # What goes up

    def open(self) -> None:
        """The session begins, or begins anew."""
        self._resilient_connection.await_verdicts(True)
        try:
            self._resilient_connection.open(self._opening())
        except ConnectionError as error:
            raise EdgespecError(f"the link is closed ({error}): start a new session.") from None

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int, turn: int) -> None:
        """The next turn; or, with no tokens and none to come, the end of this one at `keep_length`."""
        self._resilient_connection.await_verdicts(max_new_tokens > 0)
        self._send(
            _native.encode_append(
                CHANNEL, keep_length, max_new_tokens, np.array(tokens, dtype=np.int32), turn
            )
        )

    def block(self, block: Block) -> None:
        self._send(
            _native.encode_block(
                CHANNEL,
                first_node=block.first_node,
                tokens=np.array(block.tokens, dtype=np.int32),
                parents=np.array(block.parents, dtype=np.uint32),
                probabilities=np.round(np.array(block.probabilities) * 255).astype(np.uint8),
            )
        )

    def tune(self, options: ServerOptions) -> None:
        self._send(_native.encode_tune(CHANNEL, options.to_wire()))

    def close(self) -> None:
        """The session ends; what is queued may leave."""
        if not self._resilient_connection.dead:
            self._resilient_connection.send(_native.encode_close(CHANNEL, _native.FinishReason.CANCELLED))
            self._resilient_connection.close()

    # What comes down

    def receive(self, timeout_s: float | None) -> Any:
        """The next message or event, which has been dealt with as far as the link is concerned; None: the time passed.

        Raises EdgespecError when the link cannot be mended.
        """
        try:
            arrival = self._resilient_connection.receive(timeout_s)
        except ConnectionError as error:
            raise EdgespecError(f"the link is closed ({error}): start a new session.") from None
        handler = self._handlers.get(type(arrival))
        if handler is not None:
            handler(arrival)
        return arrival

    def take_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to receive."""
        return self._resilient_connection.fileno()

    @property
    def address(self) -> Address:
        """The server that has the session, or had it last."""
        return Address(*self._resilient_connection.address)

    @property
    def rtt_ms(self) -> float | None:
        return self._resilient_connection.rtt_ms

    @property
    def jitter_ms(self) -> float:
        """How far a round trip is off `rtt_ms`, on average."""
        return self._resilient_connection.jitter_ms

    @property
    def bytes_up(self) -> int:
        return self._resilient_connection.bytes_sent

    @property
    def bytes_down(self) -> int:
        return self._resilient_connection.bytes_received

    @property
    def paths(self) -> int:
        """Connections that carry the session now."""
        return self._resilient_connection.paths

    @property
    def warm(self) -> int:
        """Connections that a server has welcomed: that carry the session, or may."""
        return self._resilient_connection.welcomed

    @property
    def hedged(self) -> int:
        """Frames that were sent again because no acknowledgement came in time."""
        return self._resilient_connection.frames_hedged

    @property
    def frames(self) -> int:
        """Frames that were sent, each counted once."""
        return self._resilient_connection.frames_sent

    @property
    def repeats(self) -> int:
        """Frames that came twice; the second was dropped."""
        return self._resilient_connection.repeats_received

    # What happened to it

    def _lost(self, lost: _native.Lost) -> None:
        self.losses += 1
        self.notes.append(f"lost the link to {self.address}: {lost.reason}")

    def _gone_offline(self, _: _native.Offline) -> None:
        if self._resilient_connection.lost:
            self.offline = True
            self.notes.append(f"offline: no server for {self._options.offline_after_s:g} s")

    def _reconnected(self, reconnected: _native.Reconnected) -> None:
        self.offline, self._leaving = False, None
        self.notes.append(f"reconnected to {Address(*reconnected.address)} after {reconnected.seconds:.1f} s")

    def _forgotten(self, forgotten: _native.Forgotten) -> None:
        self.offline, self._leaving = False, None
        after = f" after {forgotten.seconds:.1f} s" if forgotten.seconds else ""
        self.notes.append(f"re-opened at {Address(*forgotten.address)}{after}")
        self.open()

    def _welcomed(self, welcome: _native.Welcome) -> None:
        """Another server, or the same again: it must serve the same target, or the text would not be the same."""
        self.hosts_draft = welcome.hosts_draft
        if welcome.target_id != self.target.target_id:
            serves = f"the server at {self.address} serves {welcome.target_id}, not {self.target.target_id}"
            self._elsewhere(serves, EdgespecError(f"{serves}: start a new session for that."))

    def _sent_away(self, goaway: _native.Goaway) -> None:
        """Said on each connection, and obeyed once; with no other server the text goes on here as long as it may."""
        if self._leaving == self.address:
            return
        self._leaving = self.address
        self.notes.append(f"the server at {self.address} is going away: {goaway.message}")
        self._resilient_connection.move()

    def _refused(self, error: _native.Error) -> None:
        refusal = EdgespecError(explain(error, self.address))
        if not error.retryable:
            raise refusal
        self._elsewhere(str(refusal), refusal)

    def _elsewhere(self, why: str, error: EdgespecError) -> None:
        """Try the next server, unless every one has been tried: then raise."""
        self._refusals += 1
        if self._refusals >= len(self._servers):
            raise error
        self.notes.append(why)
        self._resilient_connection.move()

    def _served(self, verdict: _native.Verdict) -> None:
        self._refusals = 0
        if verdict.finish != _native.FinishReason.NONE:
            self._resilient_connection.await_verdicts(False)

    def _given_up(self, given_up: _native.GivenUp) -> None:
        if not self._resilient_connection.lost or (self.offline and self.writing):
            return
        tried = " or ".join(str(server) for server in self._servers)
        raise EdgespecError(
            f"the server went away, and for {self._options.give_up_s:g} s there has been none at {tried} "
            f"({given_up.reason}): see that it runs; another step goes on waiting."
        )

    def _send(self, frame: bytes) -> None:
        try:
            self._resilient_connection.send(frame)
        except ConnectionError as error:
            raise EdgespecError(f"the link is closed ({error}): start a new session.") from None


def encoded_open(
    params: SamplingParams,
    seed: int,
    options: ServerOptions,
    tokens: Sequence[int],
    max_new_tokens: int,
    latency_ms: float | None = None,
) -> bytes:
    """An OPEN under a new session id."""
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
    )
