"""The server in simulation: the verifying loop on a simulated clock, with scripted targets and exits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.sim.clock import Clock, Event
from edgespec.sim.timing import ScriptedModel, Timing
from edgespec.verifying.loop import Forward, Share, VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

SERVER_DRAFT_TOKENS = 4
"""Tokens that the server's own draft proposes for one forward."""

Texts = Sequence[list[int]]
"""The text behind which each decided row decides."""


@dataclass(frozen=True)
class Peer:
    """A session's other side: what the models say of its text, and the way down to its edge."""

    model: ScriptedModel
    send: Callable[[Hint | Verdict], None]


class SimulatedServer:
    """Serves any number of sessions."""

    def __init__(self, clock: Clock, timing: Timing) -> None:
        self._clock = clock
        self._timing = timing
        self._peers: dict[int, Peer] = {}
        self._loop = VerifyingLoop()
        self._running = False
        self._between: list[Event] = []

    @property
    def _now_s(self) -> float:
        return self._clock.now_ms / 1e3

    def forwards(self, number: int) -> int:
        """In which this session took part."""
        return self._loop.sessions[number].verifier.forwards

    def between_forwards(self, event: Event) -> None:
        """The server's answer to what is no session's: the loop takes it in when no forward runs."""
        if self._running:
            self._between.append(event)
        else:
            event()

    def open(
        self,
        number: int,
        peer: Peer,
        prompt: Sequence[int],
        max_new_tokens: int,
        options: ServerOptions,
        limits: VerifierLimits,
    ) -> None:
        verifier = Verifier(prompt, max_new_tokens, options, limits)
        self._peers[number] = peer
        self._loop.sessions[number] = VerifyingSession(number, f"device {number}", verifier, self._now_s)
        self._start_forward()

    def receive(self, number: int, message: Block | ServerOptions) -> None:
        session = self._loop.sessions[number]
        if isinstance(message, ServerOptions):
            session.verifier.options = message
        else:
            session.receive(message, self._now_s)
        self._start_forward()

    def _start_forward(self) -> None:
        """Start the next forward, if none is running; or try again when it may start."""
        wait_s = None if self._running else self._loop.wait_s(self._now_s)
        if wait_s is None:
            return
        if wait_s > 0:
            self._clock.after(wait_s * 1e3, self._start_forward)
            return
        self._running = True
        timing, ready = self._timing, self._loop.ready(self._now_s)
        alone = timing.server_draft_ms is not None and len(ready) == 1
        drafting_ms = self._draft([session for session in ready if session.wants_draft(alone)])
        forward = self._loop.next_forward(ready, self._now_s)
        texts = [self._texts(share) for share in forward.shares]
        forward_ms = drafting_ms + timing.forward_ms(forward.rows)
        if forward.exits:
            forward_ms *= 1 + timing.exit_cost
            for layer, part in timing.exits:
                for share, own in zip(forward.shares, texts, strict=True):
                    self._clock.after(forward_ms * part, partial(self._reach_exit, share, own, layer))
        self._clock.after(forward_ms, partial(self._conclude, forward, texts, forward_ms))

    @staticmethod
    def _texts(share: Share) -> Texts:
        verifier = share.session.verifier
        return [verifier.text + verifier.tree.path_tokens(end) for end in share.rows.nodes]

    def _draft(self, sessions: Sequence[VerifyingSession]) -> float:
        """The server's own draft proposes a chain for each; how long that takes."""
        lengths = [self._draft_chain(session) for session in sessions]
        draft_ms = self._timing.server_draft_ms or self._timing.draft_ms
        if self._timing.joint_server_drafts:
            return max(lengths, default=0) * draft_ms(len(lengths))
        return sum(lengths) * draft_ms(1)

    def _draft_chain(self, session: VerifyingSession) -> int:
        verifier, chain = session.verifier, list[tuple[int, float]]()
        model = self._peers[session.number].model
        for _ in range(min(SERVER_DRAFT_TOKENS, verifier.remaining)):
            tokens, probabilities = model.draft(verifier.text + [token for token, _ in chain])
            chain.append((tokens[0], probabilities[0]))
        verifier.received.suggest(chain)
        return len(chain)

    def _reach_exit(self, share: Share, texts: Texts, layer: int) -> None:
        peer = self._peers[share.session.number]
        rows = [peer.model.exit(text, layer) for text in texts]
        hint = share.hints.of_decisions([token for token, _ in rows], [sure for _, sure in rows])
        if hint is not None:
            peer.send(hint)

    def _conclude(self, forward: Forward, texts: Sequence[Texts], forward_ms: float) -> None:
        self._running = False
        self._loop.observe(forward, forward_ms, self._now_s)
        for share, own in zip(forward.shares, texts, strict=True):
            peer = self._peers[share.session.number]
            tokens = [peer.model.target(text) for text in own]
            conclusion = share.session.conclude(
                share.rows, tokens, share.rows.tree.walk(tokens), forward_ms, self._now_s
            )
            if conclusion is not None:
                peer.send(conclusion.verdict)
        between, self._between = self._between, []
        for event in between:
            event()
        self._start_forward()
