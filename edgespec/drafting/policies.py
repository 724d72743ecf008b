"""The policies: each mode in a few lines over the same draft tree.

`cloud` streams; `lookup` does so with guesses of the server's; `sync` waits; `preempt` is the paper's. `accept-all` and
`predicted` are other published schemes, kept so that every benchmark can name them. `stream` never waits: idea 2 of the
design, whose settings `auto` chooses.
"""

import heapq
from collections.abc import Callable, Sequence

from edgespec.core.costs import least_worth
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator


class Cloud(Policy):
    """The target decodes on the server and streams; the edge drafts nothing."""

    name = "cloud"
    options = ServerOptions(fill=True)

    def __init__(self, draft_tokens: int = 0) -> None:
        """draft_tokens: unused, as nothing is drafted."""


class Lookup(Cloud):
    """`cloud`, and the server verifies beside each token what it finds in the text itself: no draft anywhere."""

    name = "lookup"
    options = ServerOptions(fill=True, prompt_lookup=True)


class Colocated(Cloud):
    """The server drafts too, beside its target: for devices that can compute nothing."""

    name = "colocated"
    options = ServerOptions(fill=True, server_draft="required")


class Sync(Policy):
    """Draft a chain, send it, wait for its verdict."""

    name = "sync"
    drafts = True

    def __init__(self, draft_tokens: int = 4) -> None:
        self.draft_tokens = draft_tokens

    def expand(self, view: Speculator) -> Sequence[int]:
        return () if view.in_flight else self._lengthen(view, ROOT, self.draft_tokens)

    def send(self, view: Speculator) -> Sequence[int]:
        return () if view.in_flight or self.expand(view) else _chain(view.tree, ROOT)

    def _lengthen(self, view: Speculator, start: int, length: int) -> Sequence[int]:
        """The tip of the chain below `start`, until it has `length` nodes; none past the last token of the text."""
        chain = _chain(view.tree, start)
        tip = chain[-1] if chain else start
        useful = view.remaining - (0 if start == ROOT else view.tree.depth(start))
        return (tip,) if len(chain) < min(length, useful) and view.can_expand(tip) else ()


class DeviceOnly(Policy):
    """Only the likeliest next token: the draft decodes by itself (`Drafter.decode`)."""

    name = "device"
    drafts = True

    def expand(self, view: Speculator) -> Sequence[int]:
        return (ROOT,) if view.can_expand(ROOT) else ()


class Preempt(Sync):
    """The paper's scheme (arXiv 2505.21594): while the server verifies, a hint starts the next chain.

    The preemptive chain is sent when the verdict matches its hint. One that was cut short is first lengthened to half
    a block: shorter blocks do not earn their round trip.
    """

    name = "preempt"
    options = ServerOptions(hint_threshold=0.3)

    def expand(self, view: Speculator) -> Sequence[int]:
        if view.in_flight:
            return () if view.hinted is None else self._lengthen(view, view.hinted, self.draft_tokens)
        enough = (self.draft_tokens + 1) // 2 if view.preempted else self.draft_tokens
        return self._lengthen(view, ROOT, enough)


class AcceptAll(Sync):
    """Draft on as if every token sent were accepted (PicoSpec; PEARL), a block at a time; no tree, no fill."""

    name = "accept-all"

    def expand(self, view: Speculator) -> Sequence[int]:
        return self._lengthen(view, ROOT, 3 * self.draft_tokens)

    def send(self, view: Speculator) -> Sequence[int]:
        chain = _chain(view.tree, ROOT)
        whole = len(chain) // self.draft_tokens * self.draft_tokens
        return chain[:whole] if self.expand(view) else chain


class Predicted(Sync):
    """While a verdict is out, draft behind the verdicts that the draft itself thinks likeliest (SSD / Saguaro).

    A predicted verdict accepts the whole block, or the block up to some node and another of the draft's choices there.
    A block is drafted behind each.
    """

    name = "predicted"

    def expand(self, view: Speculator) -> Sequence[int]:
        if tip := self._lengthen(view, ROOT, (2 if view.in_flight else 1) * self.draft_tokens):
            return tip
        if not view.in_flight:
            return ()
        for outcome in heapq.nlargest(3, self._outcomes(view), lambda node: view.tree[node].path_probability):
            if tip := self._lengthen(view, outcome, self.draft_tokens):
                return tip
        return ()

    def width(self, view: Speculator, node: int, probabilities: Sequence[float]) -> int:
        return 3

    def send(self, view: Speculator) -> Sequence[int]:
        return () if view.in_flight or self.expand(view) else _chain(view.tree, ROOT)[: self.draft_tokens]

    def _outcomes(self, view: Speculator) -> list[int]:
        """The nodes that would be the last token of a verdict: unsent children of the root or of sent nodes."""
        return [node for node in view.tree if not view.sent(node) and view.sent(view.tree[node].parent)]


STREAM_OPTIONS = ServerOptions(fill=True, prompt_lookup=True, hint_threshold=0.3)


class Stream(Policy):
    """Always expand the nodes likeliest to be committed, a few at a time, and send them as they are made.

    draft_tokens: the depth of the tree. rows: nodes per run of the draft, at most. alternatives: the most nodes behind
    each. floor: the least probability of being committed that is worth drafting (`send_floor`: that is worth sending).
    """

    name = "stream"
    drafts = remembers = True

    def __init__(
        self,
        draft_tokens: int = 12,
        *,
        rows: int = 3,
        alternatives: int = 3,
        floor: float = 0.02,
        options: ServerOptions = STREAM_OPTIONS,
    ) -> None:
        self.depth = draft_tokens
        self.rows = rows
        self.alternatives = alternatives
        self.floor = self.send_floor = floor
        self.draft_ms: Callable[[int], float] = _free
        self.options = options

    def expand(self, view: Speculator) -> Sequence[int]:
        if self.depth == 0:
            return ()
        tree = view.tree
        deepest = min(self.depth, view.remaining)
        worth = {
            node: tree[node].path_probability * _open_share(tree, node)
            for node in (ROOT, *tree)
            if view.can_expand(node) and (tree.depth(node) < deepest or view.origins.get(node) == "memory")
        }
        able = (node for node, share in worth.items() if share >= self.floor)
        likeliest = heapq.nlargest(self.rows, able, key=worth.__getitem__)
        return likeliest[: self._worthwhile([worth[node] for node in likeliest])]

    def _worthwhile(self, worth: Sequence[float]) -> int:
        """How many nodes, of this falling worth, a run of the draft takes together."""
        expected = 0.0
        for rows, one in enumerate(worth):
            if rows and one < least_worth(self.draft_ms(rows), self.draft_ms(rows + 1), expected):
                return rows
            expected += one
        return len(worth)

    def width(self, view: Speculator, node: int, probabilities: Sequence[float]) -> int:
        so_far = view.tree[node].path_probability
        worth = sum(
            so_far * probability >= self.floor for probability in probabilities[1 : self.alternatives]
        )
        return 1 + worth

    def send(self, view: Speculator) -> Sequence[int]:
        worth = (node for node in view.tree if view.tree[node].path_probability >= self.send_floor)
        return sorted(worth, key=view.tree.depth)


def _free(rows: int) -> float:
    """Milliseconds of a draft run, where nobody has measured any."""
    return 0.0


def _open_share(tree: DraftTree, node: int) -> float:
    """How likely it is that none of the node's children follows it: what a run of the draft could add there."""
    return 1.0 - sum(tree[child].probability for child in tree[node].children.values())


def _chain(tree: DraftTree, start: int) -> list[int]:
    """The likeliest line below `start`."""
    chain = []
    while children := tree[start].children:
        start = max(children.values(), key=lambda node: tree[node].probability)
        chain.append(start)
    return chain
