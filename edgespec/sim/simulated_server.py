"""The server in simulation: the verifying loop on a simulated clock, with a scripted target and exits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.sim.clock import Clock
from edgespec.sim.timing import ScriptedModel, Timing
from edgespec.verifying.loop import Forward, Share, VerifyingLoop
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits

SERVER_DRAFT_TOKENS = 4
"""Tokens that the server's own draft proposes for one forward."""

SESSION = 1

Texts = Sequence[list[int]]
"""The text behind which each decided row decides."""


class SimulatedServer:
    """One session's server. send: to the edge, a hint or a verdict."""

    def __init__(
        self, clock: Clock, model: ScriptedModel, timing: Timing, send: Callable[[Hint | Verdict], None]
    ) -> None:
        self._clock = clock
        self._model = model
        self._timing = timing
        self._send = send
        self._loop = VerifyingLoop()
        self._running = False

    @property
    def _now_s(self) -> float:
        return self._clock.now_ms / 1e3

    @property
    def _session(self) -> VerifyingSession:
        return self._loop.sessions[SESSION]

    @property
    def forwards(self) -> int:
        return self._session.verifier.forwards

    def open(
        self, prompt: Sequence[int], max_new_tokens: int, options: ServerOptions, limits: VerifierLimits
    ) -> None:
        verifier = Verifier(prompt, max_new_tokens, options, limits)
        self._loop.sessions[SESSION] = VerifyingSession(SESSION, "device", verifier, self._now_s)
        self._start_forward()

    def receive(self, message: Block | ServerOptions) -> None:
        if isinstance(message, ServerOptions):
            self._session.verifier.options = message
        else:
            self._session.receive(message, self._now_s)
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
        timing, verifier = self._timing, self._session.verifier
        drafts = self._session.wants_draft(alone=timing.server_draft_ms is not None)
        drafting_ms = self._draft() if drafts else 0.0
        forward = self._loop.next_forward([self._session], self._now_s)
        (share,) = forward.shares
        texts = [verifier.text + verifier.tree.path_tokens(end) for end in share.rows.nodes]
        forward_ms = drafting_ms + timing.forward_ms(len(share.rows.piece))
        if forward.exits:
            forward_ms *= 1 + timing.exit_cost
            for layer, part in timing.exits:
                self._clock.after(forward_ms * part, partial(self._reach_exit, share, texts, layer))
        self._clock.after(forward_ms, partial(self._conclude, forward, texts, forward_ms))

    def _draft(self) -> float:
        """The server's own draft proposes a chain; how long that takes."""
        verifier, chain = self._session.verifier, list[tuple[int, float]]()
        draft_ms = self._timing.server_draft_ms or self._timing.draft_ms
        for _ in range(min(SERVER_DRAFT_TOKENS, verifier.remaining)):
            tokens, probabilities = self._model.draft(verifier.text + [token for token, _ in chain])
            chain.append((tokens[0], probabilities[0]))
        verifier.received.suggest(chain)
        return len(chain) * draft_ms(1)

    def _reach_exit(self, share: Share, texts: Texts, layer: int) -> None:
        rows = [self._model.exit(text, layer) for text in texts]
        hint = share.hints.of_decisions([token for token, _ in rows], [sure for _, sure in rows])
        if hint is not None:
            self._send(hint)

    def _conclude(self, forward: Forward, texts: Texts, forward_ms: float) -> None:
        (share,) = forward.shares
        self._running = False
        self._loop.observe(forward, forward_ms, self._now_s)
        tokens = [self._model.target(text) for text in texts]
        conclusion = self._session.conclude(share.rows, tokens, forward_ms, self._now_s)
        if conclusion is not None:
            self._send(conclusion.verdict)
        self._start_forward()
