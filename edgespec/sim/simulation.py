"""A simulated clock around the real speculator, verifier and policies: one session, no models, no sockets.

An `ScriptedModel` says what the target, the draft and the exits would answer behind a given text; `simulate` plays one
generation by discrete events and returns the text and the times. Tests drive it with hostile oracles and delays.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgespec.core.measurements import LinearCost, Measurements
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import ROOT
from edgespec.drafting.learning import Learning
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Block, Speculator, Tally
from edgespec.verifying.verifier import Forward, Guess, Verdict, Verifier


class ScriptedModel(Protocol):
    """What the models answer: pure functions of the text so far."""

    def target(self, text: Sequence[int]) -> int:
        """The target's next token."""
        ...

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        """The draft's best next tokens and their probabilities, best first."""
        ...

    def exit(self, text: Sequence[int], layer: int) -> tuple[int, float]:
        """An exit's next token and its probability."""
        ...


@dataclass(frozen=True)
class Timing:
    """Milliseconds: a run of the draft, a forward of the target, the way up and down (a callable draws each one).

    server_draft_ms: of a draft that the server hosts and lends; None: it lends none, and in mode `colocated` its draft
    is as fast as the edge's.
    """

    draft_ms: Callable[[int], float] = lambda rows: 6.0
    forward_ms: Callable[[int], float] = lambda rows: 28.0
    up_ms: Callable[[], float] = lambda: 10.0
    down_ms: Callable[[], float] = lambda: 10.0
    server_draft_ms: Callable[[int], float] | None = None
    exits: tuple[tuple[int, float], ...] = ((4, 1 / 3), (8, 2 / 3))
    """Exit layers, and the share of a forward after which each reports."""
    exit_cost: float = 0.0
    """What the exits add to a forward, as a share of it."""


@dataclass
class Outcome:
    """What a simulated generation gave."""

    text: list[int]
    finish: str | None
    milliseconds: float
    tally: Tally
    forwards: int
    history: list[tuple[float, str]] = field(default_factory=list)


COLOCATED_DRAFT_TOKENS = 4
"""Tokens that a server drafts itself for one forward."""

Concluded = tuple[Verdict, int, float, float]
"""A verdict, the nodes that its forward verified, the milliseconds it took, and when it ended."""


class Stuck(Exception):
    """Nothing is left to happen and the text is not finished."""


def simulate(
    scripted: ScriptedModel,
    policy: Policy,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    timing: Timing | None = None,
    end_tokens: Sequence[int] = (),
    context_length: int = 2048,
    draft_capacity: int | None = None,
) -> Outcome:
    """Play one generation. Raises Stuck when it would hang."""
    return _Simulation(scripted, policy, timing or Timing(), draft_capacity).run(
        prompt, max_new_tokens, end_tokens, context_length
    )


class _Simulation:
    def __init__(
        self, scripted: ScriptedModel, policy: Policy, timing: Timing, draft_capacity: int | None
    ) -> None:
        self.scripted = scripted
        self.policy = policy
        self.timing = timing
        self.draft_capacity = draft_capacity
        self.now_ms = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.drafting = False
        self.inbox: list[Guess | Concluded] = []
        self.last_arrival = {"up": 0.0, "down": 0.0}
        self.history: list[tuple[float, str]] = []
        self.running = False
        self.edge_finish: str | None = None
        self.measurements = Measurements(server_drafts=timing.server_draft_ms is not None)
        self.concluded_ms = self.held_until_ms = 0.0
        self.cost = LinearCost()

    def run(
        self, prompt: Sequence[int], max_new_tokens: int, end_tokens: Sequence[int], context: int
    ) -> Outcome:
        self.verifier = Verifier(
            prompt,
            max_new_tokens=max_new_tokens,
            end_tokens=end_tokens,
            context_length=context,
            options=self.policy.options,
            cost=self.cost,
        )
        self.edge = Speculator(self.policy, self.measurements.calibration_ratios)
        self.learning = Learning(self.measurements, self.edge)
        self.edge.extend(prompt, 0, max_new_tokens)
        self._link("up", self._serve)
        self._act()
        while self.events and self.edge_finish is None:
            self.now_ms, _, event = heapq.heappop(self.events)
            event()
        if self.edge_finish is None:
            raise Stuck(
                f"after {self.now_ms:.1f} ms with {len(self.edge.text) - len(prompt)} tokens committed"
            )
        text = self.edge.text[len(prompt) :]
        return Outcome(
            text, self.edge_finish, self.now_ms, self.edge.tally, self.verifier.forwards, self.history
        )

    # The edge

    def _act(self) -> None:
        """One turn of the edge's loop: drain the inbox, then draft and send."""
        if self.drafting:
            return
        for message in self.inbox:
            self._apply(message)
        self.inbox.clear()
        self.edge.draft_full = self.draft_capacity is not None and len(self.edge.text) >= self.draft_capacity
        self._send()
        if nodes := self.edge.expand():
            self.drafting = True
            draft_ms = self.timing.draft_ms(len(nodes))
            self.measurements.draft_ms.observe(len(nodes), draft_ms)
            self._after(draft_ms, lambda: self._drafted(nodes))

    def _drafted(self, nodes: Sequence[int]) -> None:
        self.drafting = False
        tree = self.edge.tree
        for node in nodes:
            text = self.edge.text + [tree.token(n) for n in tree.path(node)]
            tokens, probabilities = self.scripted.draft(text)
            self.edge.grew(node, tokens, probabilities)
        self._act()

    def _send(self) -> None:
        block = self.edge.outgoing(self.measurements.slack_ms(self.now_ms))
        if block is not None:
            self.history.append((self.now_ms, f"block of {len(block.tokens)}"))
            self._link("up", lambda: self._receive(block))
        self.held_until_ms = self.now_ms + self.edge.held_ms
        if self.edge.held_ms:
            self._at(self.held_until_ms, self._release)

    def _release(self) -> None:
        """What was held back may wait no longer, unless the edge has been asked again since, or is at work."""
        if self.now_ms == self.held_until_ms and not self.drafting:
            self._send()

    def _apply(self, message: Guess | Concluded) -> None:
        if isinstance(message, Guess):
            self.edge.hint(message.base_length, message.reference, message.token, message.confidence)
            return
        verdict, rows, forward_ms, ended_ms = message
        self.edge.verdict(verdict.base_length, verdict.tokens, rows)
        self.edge_finish = verdict.finish
        self.measurements.rtt_ms = self.timing.up_ms() + self.timing.down_ms()
        if self.learning.verdict(self.now_ms, rows, len(verdict.tokens), forward_ms, ended_ms):
            options = self.policy.options
            self._link("up", lambda: self._tune(options))

    # The server

    def _receive(self, block: Block) -> None:
        self.verifier.receive(block.first_node, block.tokens, block.parents, block.probabilities)
        self._serve()

    def _serve(self) -> None:
        if self.running or not self.verifier.ready:
            return
        patient_until_ms = self.concluded_ms + self.verifier.options.max_wait_ms
        if self.verifier.patient and self.now_ms < patient_until_ms:
            return self._at(patient_until_ms, self._serve)
        self.running = True
        drafting_ms = self._draft_beside_the_target() if self._server_drafts else 0.0
        forward = self.verifier.plan()
        forward_ms = drafting_ms + self.timing.forward_ms(len(forward.piece))
        texts = [self.verifier.text + [self.verifier.tree.token(n) for n in self.verifier.tree.path(node)]
                 for node in forward.nodes]  # fmt: skip
        if self.verifier.options.hint_threshold is not None:
            forward_ms *= 1 + self.timing.exit_cost
            for layer, share in self.timing.exits:
                self._after(forward_ms * share, lambda layer=layer: self._exit(forward, texts, layer))  # type: ignore[misc]
        self._after(forward_ms, lambda: self._conclude(forward, texts, forward_ms))

    def _draft_beside_the_target(self) -> float:
        """The server's own draft gives the verifier a block; the milliseconds that it takes of the server."""
        text = list(self.verifier.text)
        tokens, probabilities, drafting_ms = [], [], 0.0
        for _ in range(min(COLOCATED_DRAFT_TOKENS, self.verifier.remaining)):
            best, probability = self.scripted.draft(text)
            tokens.append(best[0])
            probabilities.append(probability[0])
            text.append(best[0])
            drafting_ms += (self.timing.server_draft_ms or self.timing.draft_ms)(1)
        self.verifier.suggest(zip(tokens, probabilities, strict=True))
        return drafting_ms

    @property
    def _server_drafts(self) -> bool:
        wanted = self.verifier.options.server_draft
        return wanted == "required" or (wanted == "lent" and self.timing.server_draft_ms is not None)

    def _tune(self, options: ServerOptions) -> None:
        self.verifier.options = options

    def _exit(self, forward: Forward, texts: list[list[int]], layer: int) -> None:
        rows = [self.scripted.exit(text, layer) for text in texts]
        guess = self.verifier.guess(
            forward, [token for token, _ in rows], [probability for _, probability in rows]
        )
        if guess is not None:
            self.history.append((self.now_ms, f"hint from layer {layer}"))
            self._link("down", lambda: self._deliver(guess))

    def _conclude(self, forward: Forward, texts: list[list[int]], forward_ms: float) -> None:
        self.running = False
        self.concluded_ms = ended_ms = self.now_ms
        verdict = self.verifier.conclude(forward, [self.scripted.target(text) for text in texts])
        if verdict is not None:
            rows = sum(node != ROOT for node in forward.nodes)
            self.history.append((self.now_ms, f"verdict of {len(verdict.tokens)}"))
            if self.verifier.forwards > 1:
                self.cost.observe(len(forward.piece), forward_ms)
            self._link("down", lambda: self._deliver((verdict, rows, forward_ms, ended_ms)))
        self._serve()

    def _deliver(self, message: Guess | Concluded) -> None:
        self.inbox.append(message)
        self._act()

    # The clock and the link, which keeps byte order

    def _link(self, way: str, arrive: Callable[[], None]) -> None:
        delay_ms = self.timing.up_ms() if way == "up" else self.timing.down_ms()
        self.last_arrival[way] = max(self.last_arrival[way], self.now_ms + delay_ms)
        self._at(self.last_arrival[way], arrive)

    def _after(self, delay_ms: float, event: Callable[[], None]) -> None:
        self._at(self.now_ms + delay_ms, event)

    def _at(self, time_ms: float, event: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (time_ms, self.count, event))
