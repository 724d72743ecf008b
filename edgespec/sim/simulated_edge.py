"""The edge in simulation: the drafting loop on a simulated clock, with a scripted draft. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgespec.core.measurements import Measurements
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.loop import DraftingLoop, Found
from edgespec.drafting.policy import Policy
from edgespec.sim.clock import Clock
from edgespec.sim.timing import ScriptedModel, Timing


class SimulatedEdge:
    """One session's edge. send: to the server, a block or other options. draft_capacity: tokens the draft can hold.
    on_finish: called when it learns that its text has ended."""

    def __init__(
        self,
        clock: Clock,
        model: ScriptedModel,
        policy: Policy,
        timing: Timing,
        send: Callable[[Block | ServerOptions], None],
        draft_capacity: int | None = None,
        measurements: Measurements | None = None,
        on_finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._model = model
        self._timing = timing
        self._send_up = send
        self._draft_capacity = draft_capacity
        self._on_finish = on_finish
        hosted = timing.server_draft_ms is not None
        self.loop = DraftingLoop(policy, measurements or Measurements(server_drafts=hosted))
        self._drafting = False
        self._inbox: list[Hint | Verdict] = []
        self.finish: str | None = None

    def start(self, prompt: Sequence[int], max_new_tokens: int) -> ServerOptions:
        """What to ask of the server."""
        self.loop.begin(prompt, 0, max_new_tokens)
        return self.loop.open()

    def receive(self, message: Hint | Verdict) -> None:
        self._inbox.append(message)
        self.act()

    def act(self) -> None:
        """One turn of the edge: drain the inbox, send, then draft. What comes while the draft runs waits."""
        if self._drafting:
            return
        for message in self._inbox:
            self._apply(message)
        self._inbox.clear()
        loop, capacity = self.loop, self._draft_capacity
        loop.draft_full = capacity is not None and len(loop.text) >= capacity
        self._send()
        if nodes := loop.next_draft():
            self._drafting = True
            draft_ms = self._timing.draft_ms(len(nodes))
            self._clock.after(draft_ms, lambda: self._drafted(nodes, draft_ms))

    def _apply(self, message: Hint | Verdict) -> None:
        if isinstance(message, Verdict):
            self.loop.measurements.rtt_ms = self._timing.up_ms() + self._timing.down_ms()
            self.finish = message.finish
        self.loop.on_message(message, self._clock.now_ms)
        if self.finish is not None:
            self._on_finish()

    def _drafted(self, nodes: Sequence[int], draft_ms: float) -> None:
        self._drafting = False
        text, tree = self.loop.text, self.loop.tree
        found = [(node, self._model.draft(text + tree.path_tokens(node))) for node in nodes]
        self.loop.on_draft(
            [Found(node, list(tokens), list(sure)) for node, (tokens, sure) in found], draft_ms
        )
        self.act()

    def _send(self) -> None:
        for message in self.loop.outgoing(self._clock.now_ms):
            self._send_up(message)
        if self.loop.wake_ms is not None:
            self._clock.at(self.loop.wake_ms, self._release)

    def _release(self) -> None:
        """A block that was held back may wait no longer, unless it was looked at again since."""
        if self._clock.now_ms == self.loop.wake_ms and not self._drafting:
            self._send()
