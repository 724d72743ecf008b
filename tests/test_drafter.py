"""The drafter: what a run finds does not depend on what ran before it."""

from scripted_models import HashModel
from stubs import StubDraft

from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import Found

SCRIPTED = HashModel()


def one(drafter: Drafter, text: list[int], tree: DraftTree, node: int) -> Found:
    return drafter.expand(text, tree, [node])[0]


def test_a_node_that_ran_as_an_ancestor_may_still_be_asked_for() -> None:
    drafter, text, tree = Drafter(StubDraft(SCRIPTED), 0.0, 0), [1, 2, 3], DraftTree(3)  # type: ignore[arg-type]
    first = one(drafter, text, tree, ROOT).tokens[0]
    tree.add(1, ROOT, first)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    assert one(drafter, text, tree, 1).tokens == list(SCRIPTED.draft([*text, first])[0])
    assert one(drafter, text, tree, 2).tokens == list(SCRIPTED.draft([*text, first, 7])[0])


def test_so_may_one_that_became_the_end_of_the_text() -> None:
    drafter, text, tree = Drafter(StubDraft(SCRIPTED), 0.0, 0), [1, 2, 3], DraftTree(3)  # type: ignore[arg-type]
    one(drafter, text, tree, ROOT)
    tree.add(1, ROOT, 5)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    drafter.commit(tree.commit([5]), tree)
    assert one(drafter, [*text, 5], tree, ROOT).tokens == list(SCRIPTED.draft([*text, 5])[0])
