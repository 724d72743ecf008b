"""The search in the draft tree for its likeliest nodes. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from edgespec.core.tree import ROOT, DraftTree


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
