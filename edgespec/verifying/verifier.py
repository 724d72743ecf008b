"""The verifier: the server's half of one session, pure.

It holds the committed text and the draft tree as far as the edge sent it, plans the rows of the next forward, reads
hints off an exit's rows and the verdict off the last layer's, and commits. Only `conclude` commits. No I/O, no
models, no clock: `Server` joins it to the wire and the target, a test to a simulated clock and a fake target.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgespec.core.measurements import LinearCost
from edgespec.core.prompt_lookup import PromptLookup
from edgespec.core.server_options import ServerOptions
from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tree import MAX_NODE, ROOT, DraftTree
from edgespec.drafting.speculator import COMMITTED_BIT

Finish = Literal["stop", "length"]

REMEMBERED_NODES = 4096
"""How many of the newest committed nodes keep their ids, for blocks that come late."""


LARGEST_EDGE_NODE = MAX_NODE // 2
"""Ids above it are the server's own, for nodes that it looked up, or drafted itself."""

ENOUGH_EXPECTED = 1.0
"""Drafted tokens expected to be accepted for which nobody waits any longer."""


class BadBlock(Exception):
    """A block breaks the protocol: ids out of order, a parent after its child, a length not yet committed."""


@dataclass(frozen=True)
class Forward:
    """The rows of one forward: `nodes[i]` is decided by row `decide[i]` of `piece`; ROOT by the last committed token.

    A prefill chunk that does not reach the text's end decides nothing. looked_up: nodes that no draft has said.
    """

    piece: Piece
    nodes: list[int]
    decide: NDArray[np.int64]
    looked_up: int = 0


@dataclass(frozen=True)
class Guess:
    """What an exit's rows say the verdict will be: the path's end (as on the wire), then `token`."""

    base_length: int
    reference: int
    token: int
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """Tokens now committed at `base_length`, the last of them the correction or bonus; `picks` are their rows.

    accepted: how many of them were drafted, by the edge or beside the target.
    """

    base_length: int
    tokens: list[int]
    picks: list[int]
    finish: Finish | None
    accepted: int = 0


class Verifier:
    """One session on the server.

    context_length: tokens that the target can attend to. options: what the edge asked for; it may be replaced at any
    time. cost: milliseconds of a forward by its rows; None verifies every node. prefill_rows: rows of a prefill chunk.
    draft_rows: the most nodes verified in one forward. max_nodes: the most nodes buffered; a block beyond is refused.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        end_tokens: Collection[int],
        context_length: int,
        options: ServerOptions,
        cost: LinearCost | None = None,
        prefill_rows: int = 256,
        draft_rows: int = 64,
        max_nodes: int = 4096,
    ) -> None:
        self.text = list(prompt)
        self.tree = DraftTree(len(prompt))
        self.slots = SlotMap(context_length + draft_rows + 1)
        self.options = options
        self.finish: Finish | None = None
        self.forwards = 0
        self._cost = cost or LinearCost()
        self._end_tokens = frozenset(end_tokens)
        self._context_length = context_length
        self._prefill_rows = prefill_rows
        self._draft_rows = draft_rows
        self._max_nodes = max_nodes
        self._limit = len(prompt) + max_new_tokens
        self._prompted = True
        self._asked = False
        self._last_id = 0
        self._committed_ids: dict[int, int] = {}
        self._guessed: tuple[int, int] | None = None
        self._source = PromptLookup()
        self._looked_up: set[int] = set()
        self._looked_up_at = -1
        self._next_own_id = LARGEST_EDGE_NODE + 1
        self._known_as: dict[int, int] = {}

    # What arrives

    def receive(
        self, first_node: int, tokens: Sequence[int], parents: Sequence[int], probabilities: Sequence[float]
    ) -> None:
        """A block. Nodes that no longer continue the text fall away; those committed meanwhile are recognised.

        A block without nodes asks for a plain forward. Raises BadBlock, with nothing changed, when it breaks the
        protocol.
        """
        last = first_node + len(tokens) - 1
        if tokens and not self._last_id < first_node <= last <= LARGEST_EDGE_NODE:
            raise BadBlock(f"node ids {first_node} to {last} do not rise above {self._last_id}")
        if len(self.tree) + len(self._known_as) + len(tokens) > self._max_nodes:
            raise BadBlock(f"more than {self._max_nodes} nodes would wait for verification")
        for node, parent in enumerate(parents, first_node):
            if parent & COMMITTED_BIT:
                if parent & ~COMMITTED_BIT > len(self.text):
                    raise BadBlock(f"node {node} continues a text longer than the one committed")
            elif not 0 < parent < node:
                raise BadBlock(f"node {node} comes before its parent {parent}")
        if not tokens:
            self._asked = True
            return
        self._last_id = last
        for node, token, parent, probability in zip(
            range(first_node, last + 1), tokens, parents, probabilities, strict=True
        ):
            self._place(node, token, parent, probability)

    def suggest(self, chain: Iterable[tuple[int, float]]) -> list[int]:
        """Tokens that the server itself thinks likely next, each with its probability: they join the tree under ids of its
        own. Returns the nodes that are new."""
        node, new = ROOT, []
        for token, probability in chain:
            child = self.tree.child(node, token)
            if child is None:
                child = self._next_own_id
                self._next_own_id += 1
                self.tree.add(child, node, token, probability)
                new.append(child)
            node = child
        return new

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int) -> None:
        """The next turn: keep that much of the text, then these tokens. Nothing to add and no room: halt there."""
        del self.text[keep_length:]
        self.text.extend(tokens)
        self.slots.truncate(min(keep_length, self.slots.cached_length, len(self.text) - 1))
        self.tree.clear(len(self.text))
        self._committed_ids.clear()
        self._source.forget()
        self._forget_looked_up()
        self._limit = len(self.text) + max_new_tokens
        self._prompted = True
        self._asked = False
        self.finish = None if max_new_tokens else "length"

    # The next forward

    @property
    def ready(self) -> bool:
        """There are rows to run: a prompt's, a live node's, or a plain forward that is filled or asked for."""
        return self.finish is None and (
            self._prompted or self.options.fill or self._asked or len(self.tree) > 0
        )

    @property
    def patient(self) -> bool:
        """It fills, and little is at hand: a forward is worth `max_wait_ms` of waiting for what is on its way."""
        return (
            self.options.max_wait_ms > 0
            and self.options.fill
            and not (self._prompted or self._asked)
            and sum(self.tree.reach(node) for node in self.tree) < ENOUGH_EXPECTED
        )

    @property
    def remaining(self) -> int:
        """Tokens that may still be committed."""
        return max(0, min(self._limit, self._context_length) - len(self.text))

    def offer(self) -> tuple[int, list[float], bool]:
        """What the next forward could run: rows of the text, then nodes, by their probabilities to be committed, the
        likeliest first; and whether anybody asked for it (else it fills)."""
        pending = len(self.text) - self.slots.cached_length
        asked = self._prompted or self._asked or len(self.tree) > len(self._looked_up)
        self._look_up()
        return pending, [reach for _, reach in self._ranked(self._draft_rows)], asked

    def plan(self, rows: int | None = None, nodes: int | None = None) -> Forward:
        """The rows of the next forward; their slots are taken.

        rows: of the text, at most; nodes: how many of those offered. None leaves the choice to the session itself.
        """
        self._guessed = None
        pending = len(self.text) - self.slots.cached_length
        rows = rows or self._prefill_rows
        if pending > rows:
            piece = self.slots.plan(self.text, self.slots.cached_length + rows, self.tree, [])
            return Forward(piece, [], np.zeros(0, dtype=np.int64))
        self._look_up()
        chosen = self._worthwhile() if nodes is None else [node for node, _ in self._ranked(nodes)]
        piece = self.slots.plan(self.text, len(self.text), self.tree, chosen)
        looked_up = sum(self._is_looked_up(node) for node in chosen)
        return Forward(piece, [ROOT, *chosen], np.arange(pending - 1, pending + len(chosen)), looked_up)

    def seen(self, forward: Forward) -> list[NDArray[np.int32]]:
        """The different tokens of the text behind which each row decides."""
        text = set(self.text)
        paths = [[self.tree.token(node) for node in self.tree.path(end)] for end in forward.nodes]
        return [np.array(sorted(text.union(path)), dtype=np.int32) for path in paths]

    def guess(self, forward: Forward, tokens: Sequence[int], probabilities: Sequence[float]) -> Guess | None:
        """The hint that an exit's decisions (one a decided row) are worth: its confidence is the path's product.

        None as `hint` has it. The target's exits have walked already, by the kernel that this is the reference of.
        """
        if not forward.nodes:
            return None
        _, token, picks = self._walk(forward, tokens)
        return self.hint(forward, picks[1:], token, math.prod(float(probabilities[pick]) for pick in picks))

    def hint(self, forward: Forward, path: Sequence[int], token: int, confidence: float) -> Guess | None:
        """The hint that the text goes on along these decided rows and then with `token`, if it is worth sending.

        None when it is not sure enough, ends in a row that is no number (token -1), continues a node that the edge
        does not know, or says what an earlier exit of this forward said already.
        """
        threshold = self.options.hint_threshold
        if threshold is None or token < 0 or confidence < threshold:
            return None
        reference = self._edge_id(forward.nodes[path[-1]]) if path else COMMITTED_BIT | len(self.text)
        if reference is None or self._guessed == (reference, token):
            return None
        self._guessed = (reference, token)
        return Guess(len(self.text), reference, token, confidence)

    def references(self, forward: Forward) -> list[int]:
        """What each decided row is called on the wire, as a hint's path ends there; 0: the edge does not know it."""
        return [COMMITTED_BIT | len(self.text), *(self._edge_id(node) or 0 for node in forward.nodes[1:])]

    def conclude(self, forward: Forward, tokens: Sequence[int]) -> Verdict | None:
        """Commit what the last layer decided (one token a decided row); None after a prefill chunk."""
        self.forwards += 1
        if not forward.nodes:
            return None
        base_length = len(self.text)
        path, token, picks = self._walk(forward, tokens)
        committed = [*(self.tree.token(node) for node in path), token]
        committed, self.finish = self._until_end(committed)
        self.text.extend(committed)
        accepted = sum(not self._is_looked_up(node) for node in path[: len(committed)])
        nodes = self.tree.commit(committed)
        self.slots.commit(path[: len(committed)], self.tree)
        self._remember(nodes, base_length)
        self._forget_looked_up()
        self._prompted = self._asked = False
        return Verdict(base_length, committed, picks[: len(committed)], self.finish, accepted)

    def _walk(self, forward: Forward, tokens: Sequence[int]) -> tuple[list[int], int, list[int]]:
        """Follow the decisions down the verified nodes: the path, the token behind it, the decided rows used."""
        row_of = {node: i for i, node in enumerate(forward.nodes)}
        node = ROOT
        path: list[int] = []
        picks = [0]
        while True:
            token = int(tokens[picks[-1]])
            child = self.tree.child(node, token)
            if child is None or child not in row_of:
                return path, token, picks
            path.append(child)
            picks.append(row_of[child])
            node = child

    def _until_end(self, tokens: list[int]) -> tuple[list[int], Finish | None]:
        """Cut behind an end-of-sequence token, and at the last token that the limits allow."""
        room = min(self._limit, self._context_length) - len(self.text)
        for i, token in enumerate(tokens[:room]):
            if token in self._end_tokens:
                return tokens[: i + 1], "stop"
        return tokens[:room], "length" if len(tokens) >= room else None

    def _worthwhile(self) -> list[int]:
        """The nodes worth their rows, parents first.

        A row is worth its time while it adds relatively more to the tokens expected of the forward than to its cost.
        """
        chosen: list[int] = []
        expected, row_ms = 1.0, self._cost.per_row_ms
        for node, reach in self._ranked(self._draft_rows):
            dispensable = bool(chosen) or node in self._looked_up
            if dispensable and row_ms and reach * self._cost(len(chosen) + 1) < row_ms * expected:
                break
            chosen.append(node)
            expected += reach
        return chosen

    def _ranked(self, count: int) -> Iterator[tuple[int, float]]:
        """The likeliest connected piece of the tree, of at most so many nodes: each node and its probability to be
        committed, parents first, falling."""
        last_position = min(self._limit, self._context_length) - 1
        frontier = [(-self.tree.probability(node), node) for node in self.tree.children(ROOT).values()]
        heapq.heapify(frontier)
        while frontier and count > 0:
            reach, node = heapq.heappop(frontier)
            if self.tree.position(node) >= last_position:
                continue
            yield node, -reach
            count -= 1
            for child in self.tree.children(node).values():
                heapq.heappush(frontier, (reach * self.tree.probability(child), child))

    def _place(self, node: int, token: int, parent: int, probability: float) -> None:
        """Find where a new node belongs: below a live node, on the text since committed, or nowhere."""
        if parent & COMMITTED_BIT:
            self._place_behind(node, token, parent & ~COMMITTED_BIT, probability)
            return
        parent = self._known_as.get(parent, parent)
        if parent in self._committed_ids:
            self._place_behind(node, token, self._committed_ids[parent] + 1, probability)
        elif parent in self.tree:
            self._grow(node, parent, token, probability)

    def _place_behind(self, node: int, token: int, length: int, probability: float) -> None:
        if length == len(self.text):
            self._grow(node, ROOT, token, probability)
        elif self.text[length] == token:
            self._remember([node], length)

    def _grow(self, node: int, parent: int, token: int, probability: float) -> None:
        known = self.tree.child(parent, token)
        if known is None:
            self.tree.add(node, parent, token, probability)
        else:
            self._known_as[node] = known
            self.tree.reweigh(known, max(probability, self.tree.probability(known)))

    def _look_up(self) -> None:
        """Put what the text itself suggests into the tree, once for each text."""
        if not (self.options.prompt_lookup and self.options.fill) or self._looked_up_at == len(self.text):
            return
        self._looked_up_at = len(self.text)
        self._source.read(self.text)
        self._looked_up.update(self.suggest(self._source.guess()))

    def _forget_looked_up(self) -> None:
        """Drop what is known of nodes that have left the tree."""
        self._looked_up = {node for node in self._looked_up if node in self.tree}
        self._known_as = {node: known for node, known in self._known_as.items() if known in self.tree}

    def _is_looked_up(self, node: int) -> bool:
        """No draft has said it: the text itself did."""
        return node in self._looked_up and self._edge_id(node) is None

    def _edge_id(self, node: int) -> int | None:
        """The id under which the edge knows a node; None: it does not know it."""
        if node <= LARGEST_EDGE_NODE:
            return node
        return next((alias for alias, known in self._known_as.items() if known == node), None)

    def _remember(self, nodes: Sequence[int], base_length: int) -> None:
        """These nodes, one a position, are text now; so are they under other ids that the edge gave them."""
        for position, node in enumerate(nodes, base_length):
            self._committed_ids[node] = position
        for alias, known in self._known_as.items():
            if known in self._committed_ids:
                self._committed_ids[alias] = self._committed_ids[known]
        while len(self._committed_ids) > REMEMBERED_NODES:
            del self._committed_ids[next(iter(self._committed_ids))]
