"""The draft tree: growing, re-rooting, and what falls away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.core.tree import ROOT, DraftTree, TreeError


def small_tree() -> DraftTree:
    """Text of 3 tokens; 1-2-3 spell 10 11 12, 4 is an alternative (20) to 1, 5 (21) is below 4."""
    tree = DraftTree(3)
    tree.add(1, ROOT, 10, 0.5)
    tree.add(2, 1, 11, 0.5)
    tree.add(3, 2, 12, 0.5)
    tree.add(4, ROOT, 20, 0.25)
    tree.add(5, 4, 21, 1.0)
    return tree


def test_a_node_knows_its_position_depth_and_path() -> None:
    tree = small_tree()
    assert tree[1].position == 3 and tree[3].position == 5 and tree[ROOT].position == 2
    assert tree.depth(3) == 3 and tree.depth(ROOT) == 0
    assert tree.path(3) == [1, 2, 3]


def test_reach_is_the_product_of_the_probabilities_on_the_path() -> None:
    assert small_tree()[3].path_probability == 0.125


def test_another_probability_or_root_changes_the_paths_below() -> None:
    tree = small_tree()
    tree.reweigh_all({2: 0.25})
    assert [tree[node].path_probability for node in (1, 2, 3)] == [0.5, 0.125, 0.0625]
    tree.commit([10])
    assert [tree[node].path_probability for node in (2, 3)] == [0.25, 0.125]


def test_a_commit_keeps_only_what_continues_the_text() -> None:
    tree = small_tree()
    assert tree.commit([10, 11]) == [1, 2]
    assert set(tree) == {3}
    assert tree[3].parent == ROOT and tree.committed_length == 5 and tree[3].position == 5


def test_a_commit_of_a_token_that_no_node_has_empties_the_tree() -> None:
    tree = small_tree()
    assert tree.commit([10, 99]) == [1]
    assert len(tree) == 0 and tree.committed_length == 5


def test_a_sibling_survives_when_it_is_the_correction() -> None:
    tree = small_tree()
    assert tree.commit([20]) == [4]
    assert set(tree) == {5}


@pytest.mark.parametrize(
    ("node", "parent", "token"), [(1, ROOT, 7), (6, 99, 7), (6, ROOT, 10), (0, ROOT, 7), (2**31, ROOT, 7)]
)
def test_a_node_that_does_not_fit_is_refused(node: int, parent: int, token: int) -> None:
    tree = small_tree()
    with pytest.raises(TreeError):
        tree.add(node, parent, token)
    assert set(tree) == {1, 2, 3, 4, 5}


@given(
    parents=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    tokens=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    committed=st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
def test_after_any_commit_the_tree_spells_the_same_continuations(
    parents: list[int], tokens: list[int], committed: list[int]
) -> None:
    tree = DraftTree(5)
    texts: dict[int, tuple[int, ...]] = {ROOT: ()}
    for node, parent in enumerate(parents, 1):
        parent = parent % node
        if parent in texts and tree.child(parent, tokens[node - 1]) is None:
            tree.add(node, parent, tokens[node - 1])
            texts[node] = (*texts[parent], tokens[node - 1])
    tree.commit(committed)
    n = len(committed)
    alive = {node: text[n:] for node, text in texts.items() if len(text) > n and list(text[:n]) == committed}
    assert {node: tuple(tree.path_tokens(node)) for node in tree} == alive
    assert all(tree[node].position == 5 + n + len(text) - 1 for node, text in alive.items())
