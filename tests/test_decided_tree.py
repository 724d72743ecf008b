"""The decided rows of a forward as a tree, and the walk that its choices lead down."""

from __future__ import annotations

import numpy as np
from test_hints import random_session

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.tree import ROOT
from edgespec.verifying.verifier import PlannedRows, Verifier


def followed(verifier: Verifier, forward: PlannedRows, choices: list[int]) -> list[int]:
    """The rows of the nodes that the choices lead to, by the draft tree itself."""
    rows: list[int] = []
    node: int | None = ROOT
    while node is not None:
        node = verifier.tree.child(node, choices[forward.nodes.index(node)])
        if node is not None:
            rows.append(forward.nodes.index(node))
    return rows


def test_parents_are_the_nearest_ancestors_among_the_decided_rows() -> None:
    verifier, forward = random_session(np.random.default_rng(1), 11)
    row_of = {node: row for row, node in enumerate(forward.nodes)}
    wanted = [-1, *(row_of[verifier.tree[node].parent] for node in forward.nodes[1:])]
    assert len(set(wanted)) > 3 and row_of[ROOT] == 0
    assert forward.tree.parents.tolist() == wanted
    by_masks = DecidedTree.of(forward.piece, forward.decide)
    assert by_masks.parents.tolist() == wanted and by_masks.tokens.tolist() == forward.tree.tokens.tolist()


def test_a_walk_is_the_way_of_the_choices_down_the_draft_tree() -> None:
    random, longest = np.random.default_rng(2), 0
    for _ in range(300):
        verifier, forward = random_session(random, int(random.integers(1, 30)))
        choices = random.integers(0, 4, len(forward.nodes)).tolist()
        path = forward.tree.walk(choices)
        assert path == followed(verifier, forward, choices)
        longest = max(longest, len(path))
    assert longest > 2


def test_a_walk_of_no_rows_is_empty_and_one_ends_where_nothing_was_chosen() -> None:
    assert DecidedTree.nothing().walk([]) == []
    assert DecidedTree.chain([]).walk([7]) == []
    chain = DecidedTree.chain([5, 6, 7])
    assert chain.parents.tolist() == [-1, 0, 1, 2]
    assert chain.walk([5, 6, -1, 9]) == [1, 2]
    assert chain.walk([5, 6, 7, 9]) == [1, 2, 3]
