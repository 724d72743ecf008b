"""The drafting loop: what to draft next and what to send. Pure: no I/O, no clock, no model; time is passed in.

Verdicts and hints go in, and what the draft found; blocks and changed server options come out. `Session` turns this
loop with a link and an engine, the server turns it for a draft of its own, `Drafter.decode` with no server at all, and
the simulator on a simulated clock.

    loop.begin(prompt, 0, max_new_tokens)
    while not finished:
        for each message that came: loop.on_message(message, now_ms)
        send loop.outgoing(now_ms)
        nodes = loop.next_draft()
        if nodes: run the draft on them, loop.on_draft(found, draft_ms)
        else: wait for a message, until loop.wake_ms at the latest
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgespec._native import TextIndex
from edgespec.core.measurements import CLOCK_MS, Measurements
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.memory_draft import MemoryDraft
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator


@dataclass(frozen=True)
class Found:
    """What the draft found behind one node: its best next tokens and their probabilities, best first."""

    node: int
    tokens: list[int]
    probabilities: list[float]


class DraftingLoop(Speculator):
    """One session's text and its speculation, and the policy that decides about it.

    measurements: those of an earlier session on the same link and engines, or new ones. The caller keeps their link's
    figures up to date. notes: what the user should know, in words; the caller clears them. turn_start: the length of
    the text when the turn's first token was still to come. wake_ms: when `outgoing` must be asked again at the latest,
    on the clock of `now_ms`; None: nothing is held back.
    """

    def __init__(self, policy: Policy, measurements: Measurements | None = None) -> None:
        self.measurements = measurements or Measurements()
        super().__init__(self.measurements.calibration_ratios)
        self.policy = policy
        self.notes: list[str] = []
        self.turn_start = 0
        self.wake_ms: float | None = None
        self._told = policy.options
        self._trouble: str | None = None
        self._first_forward = True
        self._ended_ms = 0.0
        self._settled_from_ms = 0.0
        self._changing = False
        self._memory: MemoryDraft | None = None

    def use_memory(self, index: TextIndex) -> None:
        """Draft from these texts too, where the policy does so."""
        self._memory = MemoryDraft(index, self.measurements.lookup_rates)

    def begin(self, tokens: Sequence[int], keep_length: int, max_new_tokens: int) -> None:
        """A prompt or a next turn: keep `keep_length` tokens of the text, then `tokens`; at most `max_new_tokens` may
        follow. With no tokens and none to follow the text ends there."""
        self.extend(tokens, keep_length, max_new_tokens)
        self._grow()
        self._first_forward = True
        if tokens:
            self.turn_start = len(self.text)

    def clear_tree(self) -> None:
        """Drop every drafted node; the text stays."""
        self.extend([], len(self.text), self.remaining)

    def open(self) -> ServerOptions:
        """The session begins, here or at another server, which knows nothing of it; what to ask of that server."""
        self._first_forward = True
        self.forget_sent()
        if self.measurements.forwards:
            self._adapt()
        self._told = self.policy.options
        return self._told

    # What arrives

    def on_message(self, message: Verdict | Hint, now_ms: float) -> list[int]:
        """Take in what the server says. Returns the drafted nodes that became text, in order.

        Raises OutOfStep for a verdict that does not continue the text.
        """
        if isinstance(message, Hint):
            self.hint(message)
            return []
        if self._memory is not None:
            self._memory.judge(self, message.tokens)
        path = self.commit(message)
        self._grow()
        self._measure(message, now_ms)
        before = self.policy.options
        self._adapt()
        now = self.policy.options
        if before.server_draft != now.server_draft:
            # Forwards from before the server knows are on their way, and the first one after it pays for the change.
            self._changing = True
            self._settled_from_ms = now_ms + (self.measurements.rtt_ms or 0.0) + 1.5 * message.forward_ms
        return path

    # Drafting

    def next_draft(self) -> Sequence[int]:
        """The nodes (ROOT: the last committed token) on which to run the draft now; empty: nothing to draft."""
        return self.policy.expand(self) if self.remaining > 0 else ()

    def on_draft(self, found: Sequence[Found], draft_ms: float) -> None:
        """The draft ran on the nodes that `next_draft` named, in one run."""
        self.on_forced(found)
        self.measurements.draft_ms.observe(len(found), draft_ms)

    def on_forced(self, found: Sequence[Found]) -> None:
        """What follows the nodes was found without running the draft."""
        for one in found:
            probabilities = self.found(one.node, one.tokens, one.probabilities)
            width = self.policy.width(self, one.node, probabilities)
            self.add_children(one.node, one.tokens[:width], probabilities[:width])
            if self._memory is not None and self.policy.remembers:
                self._memory.weigh(self, one.node)
        self._grow()

    def _grow(self) -> None:
        if self._memory is not None and self.policy.remembers and self.remaining > 0:
            self._memory.grow(self)

    # Sending

    def outgoing(self, now_ms: float) -> list[ServerOptions | Block]:
        """What to send now, in this order."""
        out: list[ServerOptions | Block] = []
        options = self.policy.options
        if options is not self._told and options != self._told:
            self._told = options
            out.append(options)
        block = self._next_block(now_ms)
        if block is not None:
            out.append(block)
        return out

    def _next_block(self, now_ms: float) -> Block | None:
        policy = self.policy
        self.slack_ms, self.wake_ms = self.measurements.slack_ms(now_ms), None
        if self.remaining <= 0:
            return None
        nodes = [node for node in policy.send(self) if not self.sent(node)]
        if not nodes and (policy.options.fill or self.in_flight or policy.expand(self)):
            return None
        if nodes and (hold_ms := policy.hold_ms(self, nodes)):
            self.wake_ms = None if math.isinf(hold_ms) else now_ms + hold_ms
            return None
        return self.block(nodes)

    # Measuring

    def _measure(self, verdict: Verdict, now_ms: float) -> None:
        """What a verdict tells of its forward. The first of a text reads the prompt, and measures nothing."""
        measurements, options, ended_ms = self.measurements, self.policy.options, verdict.ended_ms
        if not self._first_forward:
            settled = not self._changing and now_ms >= self._settled_from_ms
            self._changing = self._changing and now_ms < self._settled_from_ms
            measurements.observe_forward(
                verdict.rows, verdict.forward_ms, len(verdict.tokens), verdict.row_price, settled
            )
            measurements.clock.verdict(now_ms, ended_ms, verdict.forward_ms)
            if settled:
                passed_ms = (ended_ms - self._ended_ms) % CLOCK_MS
                measurements.observe_tokens(len(verdict.tokens), passed_ms, options.server_draft == "lent")
        self._first_forward, self._ended_ms = False, ended_ms

    def _adapt(self) -> None:
        self.policy.adapt(self, self.measurements)
        trouble = self.policy.reasons.get("link")
        if trouble is not None and self._trouble is None:
            self.notes.append(trouble)
        self._trouble = trouble
