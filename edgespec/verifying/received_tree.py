"""The draft tree as far as the edge has sent it, and the ids that its nodes have on the wire. Pure.

Blocks come late: a parent may have been committed or dropped meanwhile, and a token may be in the tree already under
an id of the server's own. Here each new node finds its place below a live node or on the committed text, or is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from edgespec.core.messages import Block
from edgespec.core.tree import COMMITTED_BIT, MAX_NODE, ROOT, DraftTree

REMEMBERED_NODES = 4096
"""How many of the newest committed nodes keep their ids, for blocks that come late."""

MAX_WAITING_NODES = 1024
"""Nodes of one session that may wait for verification, unless a server says otherwise; WELCOME tells the edge."""

LARGEST_EDGE_NODE = MAX_NODE // 2
"""Ids above it are the server's own, for nodes that it looked up or drafted itself."""


class BadBlock(Exception):
    """A block breaks the protocol: ids out of order, a parent after its child, a length not yet committed."""


class ReceivedTree:
    """text: the session's committed text, which the verifier extends; max_nodes: how many may wait."""

    def __init__(self, text: list[int], max_nodes: int = MAX_WAITING_NODES) -> None:
        self.tree = DraftTree(len(text))
        self._text = text
        self._max_nodes = max_nodes
        self._last_id = 0
        self._next_own_id = LARGEST_EDGE_NODE + 1
        self._positions: OrderedDict[int, int] = OrderedDict()
        """Of committed nodes, by id."""
        self._aliases: dict[int, int] = {}
        """The edge's id of a token that was in the tree already -> its id there."""
        self._edge_ids: dict[int, int] = {}
        """The other way round: the first id by which the edge knows a node of the server's own."""

    def receive(self, block: Block) -> None:
        """Its nodes find their places. Raises BadBlock, with nothing changed, when it breaks the protocol."""
        self._check(block)
        if block.tokens:
            self._last_id = block.first_node + len(block.tokens) - 1
        raised: dict[int, float] = {}
        nodes = zip(block.tokens, block.parents, block.probabilities, strict=True)
        for node, (token, parent, probability) in enumerate(nodes, block.first_node):
            self._place(node, token, parent, probability, raised)
        if raised:
            self.tree.reweigh_all(raised)

    def suggest(self, chain: Iterable[tuple[int, float]]) -> list[int]:
        """Add the server's own guess of the next tokens, each with its probability; returns the nodes that are new."""
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

    def commit(self, tokens: Sequence[int]) -> None:
        """Re-root the tree behind these tokens; the text is longer by them already."""
        base_length = self.tree.committed_length
        for position, node in enumerate(self.tree.commit(tokens), base_length):
            self._positions[node] = position
        for alias, node in self._aliases.items():
            if node in self._positions:
                self._positions[alias] = self._positions[node]
        self._know({alias: node for alias, node in self._aliases.items() if node in self.tree})
        self._forget_oldest()

    def clear(self) -> None:
        """Another turn begins: drop every node, and forget where those before it were committed."""
        self.tree.clear(len(self._text))
        self._positions.clear()
        self._know({})

    def edge_id(self, node: int) -> int | None:
        """The id under which the edge knows a node; None: it does not know it."""
        if node <= LARGEST_EDGE_NODE:
            return node
        return self._edge_ids.get(node)

    def _check(self, block: Block) -> None:
        first_node, count = block.first_node, len(block.tokens) + block.following
        last = first_node + count - 1
        if count and not self._last_id < first_node <= last <= LARGEST_EDGE_NODE:
            raise BadBlock(
                f"node ids {first_node} to {last} must rise above {self._last_id} and end at {LARGEST_EDGE_NODE}"
            )
        if len(self.tree) + len(self._aliases) + count > self._max_nodes:
            raise BadBlock(f"more than {self._max_nodes} nodes would wait for verification")
        for node, parent in enumerate(block.parents, first_node):
            if parent & COMMITTED_BIT:
                if parent & ~COMMITTED_BIT > len(self._text):
                    raise BadBlock(f"node {node} continues a text longer than the one committed")
            elif not 0 < parent < node:
                raise BadBlock(f"node {node} comes before its parent {parent}")

    def _know(self, aliases: dict[int, int]) -> None:
        self._aliases, self._edge_ids = aliases, {}
        for alias, node in aliases.items():
            self._edge_ids.setdefault(node, alias)

    def _place(
        self, node: int, token: int, parent: int, probability: float, raised: dict[int, float]
    ) -> None:
        """Find where a new node belongs: below a live node, on the text since committed, or nowhere. raised: gets the
        known nodes that it makes likelier."""
        if parent & COMMITTED_BIT:
            return self._place_on_text(node, token, parent & ~COMMITTED_BIT, probability, raised)
        parent = self._aliases.get(parent, parent)
        if parent in self._positions:
            self._place_on_text(node, token, self._positions[parent] + 1, probability, raised)
        else:
            self._grow(node, parent, token, probability, raised)

    def _place_on_text(
        self, node: int, token: int, length: int, probability: float, raised: dict[int, float]
    ) -> None:
        """The node continues the first `length` tokens of the text."""
        if length == len(self._text):
            self._grow(node, ROOT, token, probability, raised)
        elif self._text[length] == token:
            self._positions[node] = length
            self._forget_oldest()

    def _grow(self, node: int, parent: int, token: int, probability: float, raised: dict[int, float]) -> None:
        known = self.tree.place(node, parent, token, probability)
        if known is None or known == node:
            return
        self._aliases[node] = known
        self._edge_ids.setdefault(known, node)
        if probability > raised.get(known, self.tree[known].probability):
            raised[known] = probability

    def _forget_oldest(self) -> None:
        while len(self._positions) > REMEMBERED_NODES:
            self._positions.popitem(last=False)
