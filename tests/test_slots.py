"""Slots: every row sees its ancestors and nothing else, whatever was committed, dropped and reused before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.core.slots import SLOT_BUCKET, CacheFull, Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree


class Memory:
    """A fake cache: what was written to each slot, to read back what a row of a piece attends to."""

    def __init__(self) -> None:
        self.written: dict[int, tuple[int, int]] = {}

    def run(self, piece: Piece) -> list[list[tuple[int, int]]]:
        """For each row the (position, token) pairs that it attends to, by position."""
        for i in range(len(piece)):
            assert not piece.cached[:, piece.slots[i]].any(), (
                "a row's slot still counts as somebody's ancestor"
            )
        rows = []
        own = list(zip(piece.positions.tolist(), piece.tokens.tolist(), strict=True))
        for i in range(len(piece)):
            seen = [self.written[slot] for slot in piece.cached[i].nonzero()[0]]
            seen += [own[j] for j in piece.among[i].nonzero()[0]]
            rows.append(sorted(seen))
        for i, slot in enumerate(piece.slots.tolist()):
            self.written[slot] = own[i]
            assert piece.slot_positions[slot] == piece.positions[i]
        return rows


def test_prompt_rows_attend_to_what_came_before_them() -> None:
    slots, tree = SlotMap(100), DraftTree(5)
    rows = Memory().run(slots.plan([7, 8, 9, 10, 11], 5, tree, []))
    assert [len(row) for row in rows] == [1, 2, 3, 4, 5]
    assert rows[4] == [(0, 7), (1, 8), (2, 9), (3, 10), (4, 11)]
    assert slots.cached_length == 5


def test_siblings_do_not_see_each_other() -> None:
    slots, tree, memory = SlotMap(100), DraftTree(2), Memory()
    tree.add(1, ROOT, 10)
    tree.add(2, ROOT, 20)
    tree.add(3, 2, 21)
    rows = memory.run(slots.plan([7, 8], 2, tree, [1, 2, 3]))
    assert rows[2:] == [
        [(0, 7), (1, 8), (2, 10)],
        [(0, 7), (1, 8), (2, 20)],
        [(0, 7), (1, 8), (2, 20), (3, 21)],
    ]


def test_rejected_nodes_give_their_slots_back() -> None:
    slots, tree = SlotMap(100), DraftTree(1)
    tree.add(1, ROOT, 10)
    tree.add(2, ROOT, 20)
    slots.plan([7], 1, tree, [1, 2])
    path = tree.commit([20, 5])
    slots.commit(path, tree)
    assert slots.cached_length == 2 and slots.nodes == {} and len(slots.free) == 98


def test_a_full_cache_is_said_and_changes_nothing() -> None:
    slots, tree = SlotMap(4), DraftTree(5)
    with pytest.raises(CacheFull):
        slots.plan([1, 2, 3, 4, 5], 5, tree, [])
    assert len(slots.free) == 4 and slots.cached_length == 0


def test_truncating_frees_the_slots_behind_the_length() -> None:
    slots, tree = SlotMap(70), DraftTree(5)
    slots.plan([1, 2, 3, 4, 5], 5, tree, [])
    slots.truncate(2)
    tree.clear(4)
    rows = Memory_after(slots, tree)
    assert rows[-1] == [(0, 1), (1, 2), (2, 9), (3, 9)]


def Memory_after(slots: SlotMap, tree: DraftTree) -> list[list[tuple[int, int]]]:
    memory = Memory()
    memory.written = {slot: (position, position + 1) for position, slot in enumerate(slots.committed)}
    return memory.run(slots.plan([1, 2, 9, 9], 4, tree, []))


def test_masks_are_as_wide_as_a_bucket() -> None:
    slots, tree = SlotMap(1000), DraftTree(SLOT_BUCKET + 1)
    assert slots.plan(list(range(65)), 64, tree, []).cached.shape == (64, SLOT_BUCKET)
    assert slots.plan(list(range(65)), 65, tree, []).cached.shape == (1, 2 * SLOT_BUCKET)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_row_sees_its_path_whatever_happened_before(data: st.DataObject) -> None:
    text = [1, 2, 3]
    tree, slots, memory = DraftTree(3), SlotMap(64), Memory()
    next_node = 1
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 5))):
            parent = data.draw(st.sampled_from([ROOT, *tree]))
            token = data.draw(st.integers(0, 2))
            if tree.child(parent, token) is None:
                tree.add(next_node, parent, token)
                next_node += 1
        wanted = data.draw(st.sets(st.sampled_from([*tree]), max_size=6)) if len(tree) else set()
        rows = list(
            dict.fromkeys(n for node in sorted(wanted) for n in tree.path(node) if n not in slots.nodes)
        )
        piece = slots.plan(text, len(text), tree, rows)
        seen = memory.run(piece)
        for node, row in zip(rows, seen[len(seen) - len(rows) :], strict=True):
            spelled = text + tree.path_tokens(node)
            assert row == list(enumerate(spelled))
        tokens = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
        path = tree.commit(tokens)
        text += tokens
        slots.commit(path, tree)
        assert [memory.written[slot] for slot in slots.committed] == list(enumerate(text))[
            : slots.cached_length
        ]
