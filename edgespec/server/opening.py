"""An OPEN: all of it is checked, room is made, and a session begins."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.core.shares import holder_of
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission, Asker
from edgespec.server.devices import device_name
from edgespec.server.forwards import learn_cost
from edgespec.server.gate import VOID, Gate
from edgespec.server.guide_compiler import GuideCompiler
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.opened_params import sampling_params
from edgespec.server.pictures import Pictures
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerDrafters, ServerSession, SessionStatistics
from edgespec.server.shared_memory import SharedMemory
from edgespec.server.token_ids import check_tokens
from edgespec.verifying.belief import Belief
from edgespec.verifying.constraints import Constraints
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

Code = _native.ErrorCode

DRAIN_RETRY_MS = 1000


@dataclass(frozen=True)
class Opening:
    """Opens the sessions of one server. drafters: None where it hosts no draft. shared_memory: None where texts are not
    shared."""

    target: TargetEngine
    loop: VerifyingLoop
    gate: Gate
    sessions: OpenSessions
    admission: Admission
    drafters: ServerDrafters | None
    guides: GuideCompiler
    pictures: Pictures
    shared_memory: SharedMemory | None = None

    def open(self, number: int, opened: _native.Open) -> None:
        """A session under the listener's `number`. Raises Refused, with nothing changed."""
        if self.sessions.draining:
            raise Refused(Code.DRAINING, "the server is being stopped", DRAIN_RETRY_MS)
        options = ServerOptions.from_wire(opened.options)
        params, generated = sampling_params(opened)
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
        guide_time = self.gate.devices.guide_times[identity]
        if params.guide is not None:
            self.guides.check(guide_time)
        latency_ms = self._admit(opened, options, asker)
        now_s = time.monotonic()
        session = ServerSession(
            VerifyingSession(
                number, device_name(identity) or number, verifier, now_s, latency_ms, tenant=holder
            ),
            identity,
            params,
            opened.seed,
            Constraints(params, self._end_tokens(params)),
            self.target.open_cache(verifier.slots.capacity),
            SessionStatistics(now_s, len(opened.tokens)),
            asker.holders,
            asker.granted_ms is not None,
            b"" if self.admission.settings.share_prefixes else identity,
            shared,
            guide_time,
        )
        self.pictures.place(session, pictures)
        session.host_draft(self.drafters)
        try:
            self._make_room(session)
        except Refused:
            session.close_drafter()
            raise
        self.sessions.add(session)
        if params.guide is not None:
            self.guides.compile(session, params.guide)

    def _shared(self, opened: _native.Open, asker: Asker) -> _native.TextIndex | None:
        """The texts that this session is looked up in and adds to; None: it keeps to itself."""
        if self.shared_memory is None or not opened.shared_memory:
            return None
        return self.shared_memory.of(holder_of(asker.holders))

    def _asker(self, identity: bytes) -> Asker:
        devices = self.gate.devices
        return Asker(devices.holders(identity), devices.granted_ms(identity))

    def _make_room(self, session: ServerSession) -> None:
        """Sessions and memory of others give way, now that nothing else can be wrong with the OPEN."""
        if not self.sessions.has_away:
            self.admission.check_room()
        self.admission.reserve_memory(session)
        if self.admission.full:
            self.sessions.make_room(session.holders)

    def _admit(self, opened: _native.Open, options: ServerOptions, asker: Asker) -> float | None:
        """Its latency target."""
        if opened.latency_us:
            learn_cost(self.target, self.loop)
        self.admission.check_share(asker)
        asked_ms = opened.latency_us / 1e3 if opened.latency_us else None
        return self.admission.admit(asked_ms, options.low_priority, asker)

    def _check(self, opened: _native.Open, params: SamplingParams, options: ServerOptions) -> None:
        if options.server_draft == "required" and self.drafters is None:
            raise Refused(
                Code.PARAMETER,
                "this server hosts no draft for mode 'colocated': start it with --colocated-draft",
            )
        check_tokens(opened.tokens, self.target.vocabulary_size)
        named = itertools.chain(params.logit_bias, params.stop_token_ids, *params.bad_words_ids)
        check_tokens(list(named), self.target.vocabulary_size)
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
        turn, belief = opened.max_new_tokens, Belief(self.gate.devices.beliefs[identity])
        return Verifier(opened.tokens.tolist(), turn, options, limits, generated, shared, belief)

    def _end_tokens(self, params: SamplingParams) -> frozenset[int]:
        return frozenset(params.ends(self.target.end_tokens))
