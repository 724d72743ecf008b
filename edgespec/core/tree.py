"""The draft tree: candidate continuations of the committed text, held by edge and server alike.

A node is a token, its parent, and the probability that it continues its parent. The root is the committed text. A
commit re-roots the tree, and what does not continue the text falls away: there is no rollback. Pure: no I/O, no models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ROOT = 0
"""The committed text's end, as a parent. Nodes have ids from 1 up."""

MAX_NODE = 2**31 - 1

COMMITTED_BIT = 0x8000_0000
"""On the wire a reference with this bit set is the committed text whose length the other bits give."""


class TreeError(ValueError):
    """A node does not fit the tree: its id is taken or its parent is not there."""


@dataclass(slots=True)
class Node:
    """position: in the text. probability: to be right if its parent is. path_probability: to be committed, the
    product on its path. children: ids by token."""

    token: int
    parent: int
    position: int
    probability: float
    path_probability: float
    children: dict[int, int] = field(default_factory=dict)


class DraftTree:
    """Nodes below the committed text. Ids are given by the edge and never used twice in a session. expected: tokens
    that will probably be accepted, the sum of all nodes' path probabilities."""

    def __init__(self, committed_length: int) -> None:
        self.clear(committed_length)

    def clear(self, committed_length: int) -> None:
        """Drop every node; the text now has this length."""
        self.committed_length = committed_length
        self.expected = 0.0
        self._nodes = {ROOT: Node(-1, ROOT, committed_length - 1, 1.0, 1.0)}

    def __contains__(self, node: int) -> bool:
        return node in self._nodes

    def __getitem__(self, node: int) -> Node:
        """The node; of ROOT, the position of the last committed token and the first nodes as children."""
        return self._nodes[node]

    def __len__(self) -> int:
        """Of the nodes without ROOT, which iteration leaves out too."""
        return len(self._nodes) - 1

    def __iter__(self) -> Iterator[int]:
        nodes = iter(self._nodes)
        next(nodes)
        return nodes

    def add(self, node: int, parent: int, token: int, probability: float = 1.0) -> None:
        """Put `token` below `parent`. Raises TreeError when the id is taken, the parent absent, or the token there."""
        if not 0 < node <= MAX_NODE or node in self._nodes:
            raise TreeError(f"node id {node} is out of range or taken")
        placed = self.place(node, parent, token, probability)
        if placed is None:
            raise TreeError(f"node {node} names a parent, {parent}, that is not in the tree")
        if placed != node:
            raise TreeError(f"node {node} repeats token {token} below {parent}")

    def place(self, node: int, parent: int, token: int, probability: float) -> int | None:
        """Put `token` below `parent`, under this id, which is not taken, unless it is there; returns the id that it
        has. None: the parent is not there."""
        above = self._nodes.get(parent)
        if above is None:
            return None
        known = above.children.get(token)
        if known is None:
            reach = above.path_probability * probability
            self._nodes[node] = Node(token, parent, above.position + 1, probability, reach)
            above.children[token] = node
            self.expected += reach
        return known or node

    def child(self, parent: int, token: int) -> int | None:
        return self._nodes[parent].children.get(token)

    def reweigh_all(self, probabilities: Mapping[int, float]) -> None:
        """Give these nodes other probabilities to be right, in one pass over the tree."""
        for node, probability in probabilities.items():
            self._nodes[node].probability = probability
        self.expected = _keep(self._nodes, self._nodes, self._nodes[ROOT].children.values())

    def depth(self, node: int) -> int:
        """Nodes from the root to this one, itself included."""
        return self._nodes[node].position - self.committed_length + 1

    def path(self, node: int) -> list[int]:
        """The nodes from the root's child down to `node`."""
        path = []
        while node != ROOT:
            path.append(node)
            node = self._nodes[node].parent
        return path[::-1]

    def path_tokens(self, node: int) -> list[int]:
        """The tokens that `path` spells."""
        tokens = []
        while node != ROOT:
            one = self._nodes[node]
            tokens.append(one.token)
            node = one.parent
        return tokens[::-1]

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that spell `tokens` behind the text, as far as the tree has them."""
        path: list[int] = []
        for token in tokens:
            child = self.child(path[-1] if path else ROOT, token)
            if child is None:
                break
            path.append(child)
        return path

    def commit(self, tokens: Sequence[int]) -> list[int]:
        """Re-root the tree behind `tokens`, which continue the text; returns the nodes that became text, in order."""
        path, nodes = self.follow(tokens), self._nodes
        children = nodes[path[-1] if path else ROOT].children if len(path) == len(tokens) else {}
        self.clear(self.committed_length + len(tokens))
        self._nodes[ROOT].children = children
        for node in children.values():
            nodes[node].parent = ROOT
        self.expected = _keep(self._nodes, nodes, children.values())
        return path


def _keep(kept: dict[int, Node], nodes: Mapping[int, Node], top: Iterable[int]) -> float:
    """Keep these of the nodes and all below them, and multiply the probabilities on their paths anew; their sum."""
    expected, pending = 0.0, list(top)
    while pending:
        node = pending.pop()
        one = kept[node] = nodes[node]
        one.path_probability = kept[one.parent].path_probability * one.probability
        expected += one.path_probability
        pending.extend(one.children.values())
    return expected
