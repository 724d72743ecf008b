"""The edge in simulation: the speculator and its policy on a simulated clock, with a scripted draft. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgespec.core.measurements import Measurements
from edgespec.core.messages import Block, Hint
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.learning import Learning
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator
from edgespec.sim.clock import Clock
from edgespec.sim.simulated_server import Concluded
from edgespec.sim.timing import ScriptedModel, Timing


class SimulatedEdge:
    """One session's edge. send: to the server, a block or other options; draft_capacity: tokens that the draft holds."""

    def __init__(
        self,
        clock: Clock,
        model: ScriptedModel,
        policy: Policy,
        timing: Timing,
        send: Callable[[Block | ServerOptions], None],
        draft_capacity: int | None = None,
    ) -> None:
        self._clock = clock
        self._model = model
        self._policy = policy
        self._timing = timing
        self._send_up = send
        self._draft_capacity = draft_capacity
        self._measurements = Measurements(server_drafts=timing.server_draft_ms is not None)
        self.speculator = Speculator(policy, self._measurements.calibration_ratios)
        self._learning = Learning(self._measurements, self.speculator)
        self._drafting = False
        self._inbox: list[Hint | Concluded] = []
        self._held_until_ms = 0.0
        self.finish: str | None = None

    def start(self, prompt: Sequence[int], max_new_tokens: int) -> None:
        self.speculator.extend(prompt, 0, max_new_tokens)

    def receive(self, message: Hint | Concluded) -> None:
        self._inbox.append(message)
        self.act()

    def act(self) -> None:
        """One turn of the edge's loop: drain the inbox, then draft and send."""
        if self._drafting:
            return
        for message in self._inbox:
            self._apply(message)
        self._inbox.clear()
        speculator, capacity = self.speculator, self._draft_capacity
        speculator.draft_full = capacity is not None and len(speculator.text) >= capacity
        self._send()
        if nodes := speculator.expand():
            self._drafting = True
            draft_ms = self._timing.draft_ms(len(nodes))
            self._measurements.draft_ms.observe(len(nodes), draft_ms)
            self._clock.after(draft_ms, lambda: self._drafted(nodes))

    def _drafted(self, nodes: Sequence[int]) -> None:
        self._drafting = False
        speculator, tree = self.speculator, self.speculator.tree
        for node in nodes:
            text = speculator.text + [tree.token(one) for one in tree.path(node)]
            speculator.grew(node, *self._model.draft(text))
        self.act()

    def _send(self) -> None:
        now_ms = self._clock.now_ms
        block = self.speculator.outgoing(self._measurements.slack_ms(now_ms))
        if block is not None:
            self._send_up(block)
        self._held_until_ms = now_ms + self.speculator.held_ms
        if self.speculator.held_ms:
            self._clock.at(self._held_until_ms, self._release)

    def _release(self) -> None:
        """A block that was held back may wait no longer, unless it was looked at again since."""
        if self._clock.now_ms == self._held_until_ms and not self._drafting:
            self._send()

    def _apply(self, message: Hint | Concluded) -> None:
        if isinstance(message, Hint):
            self.speculator.hint(message.base_length, message.reference, message.token, message.confidence)
            return
        verdict, rows, forward_ms, ended_ms = message
        self.speculator.verdict(verdict.base_length, verdict.tokens, rows)
        self.finish = verdict.finish
        self._measurements.rtt_ms = self._timing.up_ms() + self._timing.down_ms()
        tokens = len(verdict.tokens)
        if self._learning.verdict(self._clock.now_ms, rows, tokens, forward_ms, ended_ms):
            self._send_up(self._policy.options)
