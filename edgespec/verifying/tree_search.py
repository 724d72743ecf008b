"""Two searches in the draft tree: for its likeliest nodes, and for the path that a forward decided. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from edgespec.core.tree import ROOT, DraftTree


class Walk(NamedTuple):
    """path: the nodes that the decisions follow; token: what was decided behind them; picks: the decided rows used."""

    path: list[int]
    token: int
    picks: list[int]


def likeliest(
    tree: DraftTree, count: int, last_position: int, trees: bool = True
) -> Iterator[tuple[int, float]]:
    """At most `count` nodes before `last_position` that hang together, each with its probability to be committed:
    parents first, falling. trees: False for the nodes of one chain."""
    frontier = [(-tree[node].path_probability, node) for node in tree[ROOT].children.values()]
    heapq.heapify(frontier)
    while frontier and count > 0:
        reach, node = heapq.heappop(frontier)
        if tree[node].position >= last_position:
            continue
        yield node, -reach
        count -= 1
        if not trees:
            frontier.clear()
        for child in tree[node].children.values():
            heapq.heappush(frontier, (-tree[child].path_probability, child))


def follow_decisions(tree: DraftTree, nodes: Sequence[int], tokens: Sequence[int]) -> Walk:
    """From ROOT (nodes[0]) down the tree as long as a row's decision, tokens[i] behind nodes[i], is a decided node."""
    row_of = {node: i for i, node in enumerate(nodes)}
    path: list[int] = []
    picks = [0]
    while True:
        token = int(tokens[picks[-1]])
        child = tree.child(path[-1] if path else ROOT, token)
        if child is None or child not in row_of:
            return Walk(path, token, picks)
        path.append(child)
        picks.append(row_of[child])
