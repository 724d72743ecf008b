"""The speculator: what the edge drafts next and what it sends. The edge's half of the machine, pure.

It holds the committed text and the draft tree, takes what arrives (verdicts, hints) and what the draft found, and
asks its policy what to do. No I/O, no models, no clock: `Session` joins it to a link and an engine, a test joins it
to a simulated clock and a fake target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgespec.core.measurements import CalibrationRatios, Measurements
from edgespec.core.messages import Block
from edgespec.core.tree import COMMITTED_BIT, ROOT, DraftTree
from edgespec.drafting.policy import Policy


class OutOfStep(Exception):
    """A verdict does not continue the committed text: the server and the edge hold different texts."""


@dataclass
class Tally:
    """What the speculator counts."""

    drafted: int = 0
    sent: int = 0
    rounds: int = 0
    accepted: int = 0
    hints: int = 0
    hints_hit: int = 0


class Speculator:
    """One session's speculation on the edge. Implements `policy.View`. calibration_ratios: those of an earlier session."""

    def __init__(self, policy: Policy, calibration_ratios: CalibrationRatios | None = None) -> None:
        self.policy = policy
        self.text: list[int] = []
        self.tree = DraftTree(0)
        self.tally = Tally()
        self.hinted: int | None = None
        self.preempted = False
        self.draft_full = False
        self.slack_ms = self.held_ms = 0.0
        self._limit = 0
        self._next_node = 1
        self._next_sent = 1
        self._grown: set[int] = set()
        self._sent: dict[int, int] = {}
        self._choices: dict[int, tuple[Sequence[int], Sequence[float]]] = {}
        self._guesses: list[tuple[tuple[int, ...], float]] = []
        self._asked_length = -1
        self._calibration_ratios = calibration_ratios or CalibrationRatios()

    # What a policy looks at

    @property
    def in_flight(self) -> bool:
        return bool(self._sent) or self._asked_length == len(self.text)

    @property
    def remaining(self) -> int:
        return self._limit - len(self.text)

    def sent(self, node: int) -> bool:
        return node == ROOT or node in self._sent

    def can_grow(self, node: int) -> bool:
        return node not in self._grown and not self.draft_full

    # What arrives

    def extend(self, tokens: Sequence[int], keep_length: int, max_new_tokens: int) -> None:
        """A prompt, or the next turn: keep that much of the text, then these tokens; at most so many may follow."""
        del self.text[keep_length:]
        self.text.extend(tokens)
        self._limit = len(self.text) + max_new_tokens
        self.tree.clear(len(self.text))
        self._grown.clear()
        self._choices.clear()
        self._sent.clear()
        self._next_forward()
        self.preempted = False

    def verdict(self, base_length: int, tokens: Sequence[int], rows: int) -> list[int]:
        """The target committed `tokens` at `base_length`, having verified `rows` nodes; returns those that became text.

        Raises OutOfStep when the verdict does not continue this text.
        """
        if base_length != len(self.text) or not tokens:
            raise OutOfStep(
                f"a verdict of {len(tokens)} tokens at {base_length} came to a text of {len(self.text)}"
            )
        hits = self._learn(tokens)
        accepted = sum(node in self._sent for node in self.tree.follow(tokens)[: len(tokens) - 1])
        path = self.tree.commit(tokens)
        self.text.extend(tokens)
        root_grown = len(path) == len(tokens) and path[-1] in self._grown
        self._grown = {node for node in self._grown if node != ROOT and node in self.tree}
        if root_grown:
            self._grown.add(ROOT)
        self._choices = {
            node: found for node, found in self._choices.items() if node != ROOT and node in self.tree
        }
        self._sent = {node: sent for node, sent in self._sent.items() if node in self.tree}
        self._next_forward()
        self.preempted = hits > 0
        if rows:
            self.tally.rounds += 1
            self.tally.accepted += accepted
        return path

    def forgotten(self) -> None:
        """The server no longer has any of the nodes; what is still worth it goes out again."""
        self._sent.clear()
        self._next_forward()

    def hint(self, base_length: int, reference: int, token: int, confidence: float) -> None:
        """An exit guesses that the text goes on along the path to `reference` and then with `token`.

        It adds a branch or re-weighs one; a hint that came after its verdict says nothing new and is passed over.
        """
        self.tally.hints += 1
        end = self._named(reference)
        if base_length != len(self.text) or end is None:
            return
        foretold = (*(self.tree.token(node) for node in self.tree.path(end)), token)
        self._guesses.append((foretold, confidence))
        confidence = self._calibration_ratios.hints.corrected(confidence)
        child = self.tree.child(end, token)
        if child is None:
            child = self._add(end, token, confidence)
        else:
            self.tree.reweigh(child, max(confidence, self.tree.probability(child)))
        self.hinted = child

    # What the edge does next

    def expand(self) -> Sequence[int]:
        """The nodes (or ROOT) on which to run the draft now; empty: nothing."""
        return self.policy.expand(self) if self.remaining > 0 else ()

    def grew(self, node: int, tokens: Sequence[int], probabilities: Sequence[float]) -> None:
        """The draft ran on `node`: its best continuations, best first, with their calibrated probabilities."""
        self._grown.add(node)
        self._choices[node] = (tokens, probabilities)
        best, others = self._calibration_ratios.best, self._calibration_ratios.others
        probabilities = [
            (others if rank else best).corrected(probability)
            for rank, probability in enumerate(probabilities)
        ]
        width = self.policy.width(self, node, probabilities)
        for token, probability in zip(tokens[:width], probabilities[:width], strict=True):
            if self.tree.child(node, token) is None:
                self._add(node, token, probability)
                self.tally.drafted += 1

    def outgoing(self, slack_ms: float = 0.0) -> Block | None:
        """The block to send now, if any; its nodes count as sent. slack_ms: how long it may wait, see `View`.

        A block without nodes asks a server that does not fill for a plain forward: there is nothing to verify.
        `held_ms` says when to ask again at the latest where nothing else happens before; 0: there is no need to.
        """
        self.slack_ms, self.held_ms = slack_ms, 0.0
        if self.remaining <= 0:
            return None
        nodes = [node for node in self.policy.send(self) if node not in self._sent]
        if not nodes:
            if self.policy.options.fill or self.in_flight or self.policy.expand(self):
                return None
            self._asked_length = len(self.text)
            return Block(self._next_sent, [], [], [])
        if held_ms := self.policy.hold_ms(self, nodes):
            self.held_ms = 0.0 if math.isinf(held_ms) else held_ms
            return None
        first = self._next_sent
        parents = []
        for node in nodes:
            parent = self.tree.parent(node)
            parents.append(COMMITTED_BIT | len(self.text) if parent == ROOT else self._sent[parent])
            self._sent[node] = self._next_sent
            self._next_sent += 1
        self.tally.sent += len(nodes)
        tree = self.tree
        return Block(
            first, [tree.token(node) for node in nodes], parents, [tree.probability(node) for node in nodes]
        )

    def adapt(self, measurements: Measurements) -> bool:
        """Let the policy choose anew; True when what it asks of the server changed."""
        measurements.hint_calibration_ratio = self._calibration_ratios.hints.ratio
        measurements.acceptance = self._calibration_ratios.best.share
        before = self.policy.options
        self.policy.adapt(self, measurements)
        return before != self.policy.options

    def _learn(self, tokens: Sequence[int]) -> int:
        """What the verdict says of the draft's probabilities and of the hints; returns how many hints were right in full."""
        node: int | None = ROOT
        for token in tokens:
            if node is None or node not in self._choices:
                break
            for rank, (choice, probability) in enumerate(zip(*self._choices[node], strict=True)):
                (self._calibration_ratios.others if rank else self._calibration_ratios.best).observe(
                    probability, choice == token
                )
            node = self.tree.child(node, token)
        hits = 0
        for foretold, confidence in self._guesses:
            hit = foretold == tuple(tokens)
            self._calibration_ratios.hints.observe(confidence, hit)
            hits += hit
        self.tally.hints_hit += hits
        return hits

    def _named(self, reference: int) -> int | None:
        """The node that the server means by a reference; None when the edge no longer has it."""
        if reference & COMMITTED_BIT:
            return ROOT if reference & ~COMMITTED_BIT == len(self.text) else None
        return next((node for node, sent in self._sent.items() if sent == reference), None)

    def _add(self, parent: int, token: int, probability: float) -> int:
        node = self._next_node
        self._next_node += 1
        self.tree.add(node, parent, token, probability)
        return node

    def _next_forward(self) -> None:
        self._guesses.clear()
        self._asked_length = -1
        self.hinted = None
