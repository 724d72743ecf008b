"""The draft tree: candidate continuations of the committed text, held by edge and server alike.

A node is a token, its parent, and the probability that it continues its parent. The root is the committed text. A
commit re-roots the tree, and what does not continue the text falls away: there is no rollback. Pure: no I/O, no models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ROOT = 0
"""The committed text's end, as a parent. Nodes have ids from 1 up."""

MAX_NODE = 2**31 - 1

COMMITTED_BIT = 0x8000_0000
"""On the wire a reference with this bit set is the committed text whose length the other bits give."""


class TreeError(ValueError):
    """A node does not fit the tree: its id is taken or its parent is not there."""


@dataclass(slots=True)
class _Node:
    token: int
    parent: int
    position: int
    probability: float
    children: dict[int, int] = field(default_factory=dict)


class DraftTree:
    """Nodes below the committed text. Ids are given by the edge and never used twice in a session."""

    def __init__(self, committed_length: int) -> None:
        self.committed_length = committed_length
        self._nodes: dict[int, _Node] = {}
        self._first: dict[int, int] = {}

    def __contains__(self, node: int) -> bool:
        return node == ROOT or node in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def add(self, node: int, parent: int, token: int, probability: float = 1.0) -> None:
        """Put `token` below `parent`. Raises TreeError when the id is taken, the parent absent, or the token there."""
        if not 0 < node <= MAX_NODE or node in self._nodes:
            raise TreeError(f"node id {node} is out of range or taken")
        if parent not in self:
            raise TreeError(f"node {node} names a parent, {parent}, that is not in the tree")
        siblings = self._children(parent)
        if token in siblings:
            raise TreeError(f"node {node} repeats token {token} below {parent}")
        position = self.committed_length if parent == ROOT else self._nodes[parent].position + 1
        self._nodes[node] = _Node(token, parent, position, probability)
        siblings[token] = node

    def token(self, node: int) -> int:
        return self._nodes[node].token

    def parent(self, node: int) -> int:
        return self._nodes[node].parent

    def position(self, node: int) -> int:
        """The absolute position of the node's token; of ROOT, that of the last committed token."""
        return self.committed_length - 1 if node == ROOT else self._nodes[node].position

    def probability(self, node: int) -> float:
        """The probability that the node is right, given that its parent is."""
        return self._nodes[node].probability

    def reweigh(self, node: int, probability: float) -> None:
        self._nodes[node].probability = probability

    def child(self, parent: int, token: int) -> int | None:
        return self._children(parent).get(token)

    def children(self, parent: int) -> Mapping[int, int]:
        """Token -> node id."""
        return self._children(parent)

    def path_probability(self, node: int) -> float:
        """The probability that the node will be committed: the product of the probabilities on its path."""
        product = 1.0
        while node != ROOT:
            product *= self._nodes[node].probability
            node = self._nodes[node].parent
        return product

    def depth(self, node: int) -> int:
        """Nodes from the root to this one, itself included."""
        return self.position(node) - self.committed_length + 1

    def path(self, node: int) -> list[int]:
        """The nodes from the root's child down to `node`."""
        path = []
        while node != ROOT:
            path.append(node)
            node = self._nodes[node].parent
        return path[::-1]

    def follow(self, tokens: Sequence[int], start: int = ROOT) -> list[int]:
        """The nodes that spell `tokens` below `start`, as far as the tree has them."""
        path = []
        for token in tokens:
            child = self.child(start, token)
            if child is None:
                break
            path.append(child)
            start = child
        return path

    def commit(self, tokens: Sequence[int]) -> list[int]:
        """Re-root the tree behind `tokens`, which continue the text; returns the nodes that became text, in order."""
        path = self.follow(tokens)
        self.committed_length += len(tokens)
        if len(path) < len(tokens):
            self._nodes.clear()
            self._first.clear()
        elif path:
            self._keep_below(path[-1])
        return path

    def clear(self, committed_length: int) -> None:
        """Drop every node; the text now has this length."""
        self.committed_length = committed_length
        self._nodes.clear()
        self._first.clear()

    def _keep_below(self, root: int) -> None:
        self._first = self._nodes[root].children
        kept = {}
        pending = list(self._first.values())
        for node in self._first.values():
            self._nodes[node].parent = ROOT
        while pending:
            node = pending.pop()
            kept[node] = self._nodes[node]
            pending.extend(kept[node].children.values())
        self._nodes = kept

    def _children(self, parent: int) -> dict[int, int]:
        return self._first if parent == ROOT else self._nodes[parent].children
