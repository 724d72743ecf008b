"""What one session speculates on: the committed text, the draft tree behind it, and which of its nodes were sent.

Verdicts, hints and what the draft found go in; blocks come out. Policies look at it. Pure.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from edgespec.core.calibration_ratios import CalibrationRatios
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.tree import COMMITTED_BIT, ROOT, DraftTree


class OutOfStep(Exception):
    """A verdict does not continue the committed text: the server and the edge hold different texts."""


Source = Literal["draft", "hint", "memory", "server_guess", "target"]
"""Where a committed token came from: the draft, a hint or the device's memory foresaw it, the server guessed it (by
look-up or with a draft of its own), or the target decoded it with nothing foreseen."""


@dataclass
class DraftCounts:
    """drafted: nodes the draft made; remembered: those from the device's memory; sent: those that went up; rounds:
    verdicts whose forward verified drafted nodes; accepted: drafted tokens that the target committed; hints_sent:
    hints that came; hints_hit: those that were right in full; draft_runs, draft_ms: runs of the draft, and their time.
    """

    rounds: int = 0
    drafted: int = 0
    remembered: int = 0
    sent: int = 0
    accepted: int = 0
    hints_sent: int = 0
    hints_hit: int = 0
    draft_runs: int = 0
    draft_ms: float = 0.0


class Speculator:
    """calibration_ratios: those of an earlier session. text: the committed tokens, prompt included.

    hinted: the node that the newest hint of the running forward names as the next committed token; preempted: a hint
    had foretold the last verdict in full. draft_full: the draft's cache has no room left in this turn. slack_ms: how
    long sending may wait and still be in time for the same forward; 0 when that is not known. sources: of the tokens
    committed last. origins: what proposed each node of the tree first.
    """

    def __init__(self, calibration_ratios: CalibrationRatios | None = None) -> None:
        self.text: list[int] = []
        self.tree = DraftTree(0)
        self.counts = DraftCounts()
        self.sources: list[Source] = []
        self.hinted: int | None = None
        self.preempted = False
        self.draft_full = False
        self.slack_ms = 0.0
        self._limit = 0
        self._next_node = 1
        self._next_sent = 1
        self._sent: dict[int, int] = {}
        self._choices: dict[int, tuple[Sequence[int], Sequence[float]]] = {}
        self.origins: dict[int, Source] = {}
        self._hints: list[tuple[tuple[int, ...], float]] = []
        self._asked_length = -1
        self._calibration_ratios = calibration_ratios or CalibrationRatios()

    # What a policy looks at

    @property
    def in_flight(self) -> bool:
        """Nodes that were sent still wait for a verdict."""
        return bool(self._sent) or self._asked_length == len(self.text)

    @property
    def remaining(self) -> int:
        """Tokens that may still be committed."""
        return self._limit - len(self.text)

    def sent(self, node: int) -> bool:
        """The node was sent; ROOT, the committed text, counts as sent."""
        return node == ROOT or node in self._sent

    def can_expand(self, node: int) -> bool:
        """The draft has not been run on this node (ROOT: on the last committed token) yet, and has room for it."""
        return node not in self._choices and not self.draft_full

    # What arrives

    def extend(self, tokens: Sequence[int], keep_length: int, max_new_tokens: int) -> None:
        """Keep `keep_length` tokens of the text, then `tokens`; at most `max_new_tokens` may follow."""
        del self.text[keep_length:]
        self.text.extend(tokens)
        self._limit = len(self.text) + max_new_tokens
        self.tree.clear(len(self.text))
        self._choices.clear()
        self.origins.clear()
        self.preempted = self.draft_full = False
        self.forget_sent()

    def forget_sent(self, kept: Collection[int] = ()) -> None:
        """The server has only these of the nodes that were sent; what is still worth it is sent again."""
        self._sent = {node: sent for node, sent in self._sent.items() if node in kept}
        self._hints.clear()
        self._asked_length = -1
        self.hinted = None

    def commit(self, verdict: Verdict) -> list[int]:
        """Apply a verdict; returns the nodes that became text. Raises OutOfStep."""
        tokens = verdict.tokens
        if verdict.base_length != len(self.text) or not tokens:
            raise OutOfStep(
                f"a verdict of {len(tokens)} tokens at {verdict.base_length} came to a text of {len(self.text)}"
            )
        self.preempted = self._learn(tokens) > 0
        followed = self.tree.follow(tokens)[: len(tokens) - 1] if verdict.rows else []
        accepted = [node for node in followed if node in self._sent]
        self.counts.rounds += verdict.rows > 0
        self.counts.accepted += len(accepted)
        self.sources = [self.origins[node] for node in accepted]
        self.sources += ["server_guess"] * (len(tokens) - 1 - len(accepted))
        self.sources += ["target"]
        path = self.tree.commit(tokens)
        self.text.extend(tokens)
        root_choices = self._choices.get(path[-1]) if len(path) == len(tokens) else None
        live = set(self.tree)
        self._choices = {node: found for node, found in self._choices.items() if node in live}
        if root_choices is not None:
            self._choices[ROOT] = root_choices
        self.origins = {node: origin for node, origin in self.origins.items() if node in live}
        self.forget_sent(kept=live)
        return path

    def hint(self, hint: Hint) -> None:
        """Add the branch that a hint names, or re-weigh it. A hint that came after its verdict is ignored."""
        self.counts.hints_sent += 1
        end: int | None = ROOT
        if hint.reference != COMMITTED_BIT | len(self.text):
            end = next((node for node, sent in self._sent.items() if sent == hint.reference), None)
        if hint.base_length != len(self.text) or end is None:
            return
        foretold = (*self.tree.path_tokens(end), hint.token)
        self._hints.append((foretold, hint.confidence))
        confidence = self._calibration_ratios.hints.corrected(hint.confidence)
        child = self.tree.child(end, hint.token)
        if child is None:
            child = self.add(end, hint.token, confidence, "hint")
        else:
            self.tree.reweigh_all({child: max(confidence, self.tree[child].probability)})
        self.hinted = child

    # What the edge does next

    def found(self, node: int, tokens: Sequence[int], probabilities: Sequence[float]) -> list[float]:
        """The draft ran on `node`: its best continuations, best first. Returns their probabilities, corrected."""
        self._choices[node] = (tokens, probabilities)
        best, others = self._calibration_ratios.best, self._calibration_ratios.others
        return [(others if rank else best).corrected(one) for rank, one in enumerate(probabilities)]

    def best_choice(self, node: int) -> int | None:
        """The draft's best token behind `node`; None: it was not run there."""
        found = self._choices.get(node)
        return found[0][0] if found is not None else None

    def add(self, parent: int, token: int, probability: float, origin: Source) -> int:
        """`origin` proposes `token` behind a node; the new node."""
        node = self._next_node
        self._next_node += 1
        self.tree.add(node, parent, token, probability)
        self.origins[node] = origin
        self.counts.drafted += origin == "draft"
        self.counts.remembered += origin == "memory"
        return node

    def add_children(self, node: int, tokens: Sequence[int], probabilities: Sequence[float]) -> None:
        for token, probability in zip(tokens, probabilities, strict=True):
            if self.tree.child(node, token) is None:
                self.add(node, token, probability, "draft")

    def block(self, nodes: Sequence[int]) -> Block:
        """The block of these nodes, which count as sent from now on.

        One without nodes asks a server that does not fill for a plain forward: there is nothing to verify.
        """
        first, parents, new = self._next_sent, [], [self.tree[node] for node in nodes]
        for node, one in zip(nodes, new, strict=True):
            parents.append(COMMITTED_BIT | len(self.text) if one.parent == ROOT else self._sent[one.parent])
            self._sent[node] = self._next_sent
            self._next_sent += 1
        self.counts.sent += len(nodes)
        if not nodes:
            self._asked_length = len(self.text)
        return Block(first, [one.token for one in new], parents, [one.probability for one in new])

    def _learn(self, tokens: Sequence[int]) -> int:
        """Compare the draft's choices and the hints with what was committed; returns how many hints were right."""
        node: int | None = ROOT
        for token in tokens:
            if node is None or node not in self._choices:
                break
            for rank, (choice, probability) in enumerate(zip(*self._choices[node], strict=True)):
                ratio = self._calibration_ratios.others if rank else self._calibration_ratios.best
                ratio.observe(probability, choice == token)
            node = self.tree.child(node, token)
        hits = 0
        for foretold, confidence in self._hints:
            hit = foretold == tuple(tokens)
            self._calibration_ratios.hints.observe(confidence, hit)
            hits += hit
        self.counts.hints_hit += hits
        return hits
