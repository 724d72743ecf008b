"""What arrives at a server: each message goes to the gate or to its session, in its order.

What an edge cannot have raises Refused. A message that fails ends whoever sent it, and nobody else.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core import sampling_section
from edgespec.core.errors import EdgespecError
from edgespec.core.guide_matcher import Guides
from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission, Asker
from edgespec.server.devices import device_name
from edgespec.server.forwards import learn_cost
from edgespec.server.gate import VOID, Gate
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.pictures import Pictures, check_kept
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerDrafters, ServerSession, SessionStatistics
from edgespec.server.shared_memory import SharedMemory
from edgespec.server.shares import holder_of
from edgespec.verifying.belief import Belief
from edgespec.verifying.constraints import Constraints
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.received_tree import BadBlock
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

log = logging.getLogger("edgespec.server")

Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]
Code = _native.ErrorCode

DRAIN_RETRY_MS = 1000


@dataclass(frozen=True)
class Requests:
    """Opens and instructs the sessions of one server. drafters: None where it hosts no draft.
    shared_memory: None where texts are not shared."""

    target: TargetEngine
    loop: VerifyingLoop
    gate: Gate
    sessions: OpenSessions
    admission: Admission
    drafters: ServerDrafters | None
    guides: Guides
    pictures: Pictures
    shared_memory: SharedMemory | None = None

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
                self._open(number, message)
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
        all_tokens = self._are_tokens(batch.nodes["token"])
        tokens, parents = batch.nodes["token"].tolist(), batch.nodes["parent"].tolist()
        probabilities = (batch.nodes["probability"] / 255.0).tolist()
        offsets = batch.offsets.tolist()
        blocks = zip(batch.numbers.tolist(), batch.first_nodes.tolist(), offsets, offsets[1:], strict=False)
        for number, first_node, start, end in blocks:
            block = Block(first_node, tokens[start:end], parents[start:end], probabilities[start:end])
            try:
                if number in self.gate:
                    self.gate.receive(number, block)
                elif number in self.sessions.table:
                    if not all_tokens:
                        self._check_tokens(block.tokens)
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

    # OPEN

    def _open(self, number: int, opened: _native.Open) -> None:
        """A session under the listener's `number`."""
        if self.sessions.draining:
            raise Refused(Code.DRAINING, "the server is being stopped", DRAIN_RETRY_MS)
        options = ServerOptions.from_wire(opened.options)
        params, generated = _sampling_params(opened)
        self._check(opened, params, options)
        if (identity := self.gate.listener.identity(number)) is None:  # its edge has ended it already
            return
        if not self.gate.knows(identity):  # it came before the tokens were read again
            raise Refused(Code.CREDENTIAL, VOID)
        asker = self._asker(identity)
        holder = holder_of(asker.holders) or str(number)
        pictures = self.pictures.check(opened.pictures, (identity, holder), opened.tokens, 0)
        shared = self._shared(opened, asker)
        verifier = self._verifier(opened, params, options, generated, shared, identity)
        constraints = self._constraints(params)
        latency_ms = self._admit(opened, options, asker)
        now_s = time.monotonic()
        session = ServerSession(
            VerifyingSession(
                number,
                device_name(identity) or number,
                verifier,
                now_s,
                latency_ms,
                tenant=holder_of(asker.holders) or number,
            ),
            identity,
            params,
            opened.seed,
            constraints,
            self.target.open_cache(verifier.slots.capacity),
            SessionStatistics(now_s, len(opened.tokens)),
            asker.holders,
            b"" if self.admission.settings.share_prefixes else identity,
            shared,
        )
        self.pictures.place(session, pictures)
        self.admission.reserve_memory(session)
        session.host_draft(self.drafters)
        self.sessions.add(session)

    def _shared(self, opened: _native.Open, asker: Asker) -> _native.TextIndex | None:
        """The texts that this session is looked up in and adds to; None: it keeps to itself."""
        if self.shared_memory is None or not opened.shared_memory:
            return None
        return self.shared_memory.of(holder_of(asker.holders))

    def _asker(self, identity: bytes) -> Asker:
        devices = self.gate.devices
        return Asker(devices.holders(identity), devices.granted_ms(identity))

    def _admit(self, opened: _native.Open, options: ServerOptions, asker: Asker) -> float | None:
        """Its latency target. Whatever else is wrong with an OPEN has been found before anybody gives way for it."""
        if opened.latency_us:
            learn_cost(self.target, self.loop)
        self.admission.check_share(asker)
        if self.admission.full:
            self.sessions.make_room(asker.holders)
        asked_ms = opened.latency_us / 1e3 if opened.latency_us else None
        return self.admission.admit(asked_ms, options.low_priority, asker)

    def _check(self, opened: _native.Open, params: SamplingParams, options: ServerOptions) -> None:
        if options.server_draft == "required" and self.drafters is None:
            raise Refused(
                Code.PARAMETER,
                "this server hosts no draft for mode 'colocated': start it with --colocated-draft",
            )
        self._check_tokens(opened.tokens)
        named = itertools.chain(params.logit_bias, params.stop_token_ids, *params.bad_words_ids)
        self._check_tokens(list(named))
        if not 0 < len(opened.tokens) < self.target.context_length:
            raise Refused(
                Code.CONTEXT,
                f"the prompt has {len(opened.tokens)} tokens, and the target's context holds "
                f"{self.target.context_length}: shorten the prompt",
            )

    def _verifier(
        self,
        opened: _native.Open,
        params: SamplingParams,
        options: ServerOptions,
        generated: int,
        shared: _native.TextIndex | None,
        identity: bytes,
    ) -> Verifier:
        if generated >= len(opened.tokens):
            raise Refused(Code.PARAMETER, "the text that this turn has generated is longer than the prompt")
        limits = VerifierLimits(
            self.target.context_length,
            self._end_tokens(params),
            trees=self.target.trees,
            guesses=not self.admission.settings.no_guesses,
        )
        turn, belief = opened.max_new_tokens, Belief(self.gate.devices.belief(identity))
        return Verifier(opened.tokens.tolist(), turn, options, limits, generated, shared, belief)

    def _constraints(self, params: SamplingParams) -> Constraints:
        try:
            matcher = None if params.guide is None else self.guides.matcher(params.guide)
        except EdgespecError as error:
            raise Refused(Code.PARAMETER, str(error)) from None
        return Constraints(params, self._end_tokens(params), matcher)

    def _end_tokens(self, params: SamplingParams) -> frozenset[int]:
        return frozenset(params.ends(self.target.end_tokens))

    # APPEND

    def _append(self, session: ServerSession, append: _native.Append) -> None:
        """The session's next turn, or a halt."""
        verifier = session.verifier
        self._check_tokens(append.tokens)
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

    def _check_tokens(self, tokens: Tokens) -> None:
        """Refuse ids that the target does not have."""
        if not self._are_tokens(tokens):
            raise Refused(Code.PARAMETER, f"token ids must lie in 0 to {self.target.vocabulary_size - 1}")

    def _are_tokens(self, tokens: Tokens) -> bool:
        array = np.asarray(tokens)
        return not len(array) or 0 <= int(array.min()) <= int(array.max()) < self.target.vocabulary_size


SAMPLING_FIELDS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "max_new_tokens", "ignore_eos", "logprobs",
)  # fmt: skip


def _sampling_params(opened: _native.Open) -> tuple[SamplingParams, int]:
    """The parameters, and how many of the prompt's last tokens this turn has generated already."""
    fields = {name: getattr(opened, name) for name in SAMPLING_FIELDS}
    try:
        further, generated = sampling_section.decode(opened.sampling)
        fields["max_new_tokens"] += generated
        return SamplingParams(logit_bias=dict(opened.logit_bias), **fields, **further), generated
    except (EdgespecError, TypeError, ValueError, OverflowError) as error:  # a section may hold anything
        raise Refused(Code.PARAMETER, str(error)) from None
