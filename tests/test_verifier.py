"""The server's half of a session: late blocks, early ends, refused blocks, hints worth sending."""

from __future__ import annotations

from typing import Any

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.verifying.belief import Belief
from edgespec.verifying.forward_hints import ForwardHints
from edgespec.verifying.received_tree import BadBlock
from edgespec.verifying.verifier import Conclusion, PlannedRows, Verifier, VerifierLimits

PROMPT = [1, 2, 3]
REPEATED = [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]


def root(length: int) -> int:
    return COMMITTED_BIT | length


def verifier(
    prompt: list[int] = PROMPT,
    max_new_tokens: int = 50,
    options: ServerOptions | None = None,
    **limits: Any,
) -> Verifier:
    return Verifier(prompt, max_new_tokens, options or ServerOptions(), VerifierLimits(100, **limits))


def looking_up(hint_threshold: float | None = None, **limits: Any) -> Verifier:
    """A session whose text suggests that 4, 5, 6, ... come next."""
    options = ServerOptions(fill=True, prompt_lookup=True, hint_threshold=hint_threshold)
    return verifier(REPEATED, options=options, **limits)


def conclude(session: Verifier, rows: PlannedRows, *decided: int) -> Conclusion:
    assert len(rows.nodes) == len(decided)
    conclusion = session.conclude(rows, decided, rows.tree.walk(decided))
    assert conclusion is not None
    return conclusion


def run(session: Verifier, *decided: int) -> Conclusion:
    """One forward whose decided rows give these tokens."""
    return conclude(session, session.plan(), *decided)


def test_the_prompt_gives_the_first_token_without_any_draft() -> None:
    session = verifier()
    assert session.ready
    assert run(session, 10).verdict.tokens == [10]
    assert not session.ready


def test_accepted_nodes_and_the_correction_are_committed_together() -> None:
    session = verifier()
    session.receive(Block(1, [10, 11, 12], [root(3), 1, 2], [1, 1, 1]))
    conclusion = run(session, 10, 11, 99, 50)
    verdict = conclusion.verdict
    assert (verdict.tokens, verdict.base_length, conclusion.picks) == ([10, 11, 99], 3, [0, 1, 2])
    assert (verdict.rows, verdict.forwards) == (3, 1)
    assert len(session.tree) == 0 and session.slots.cached_length == 5


def test_a_block_for_a_text_that_has_grown_meanwhile_finds_its_place() -> None:
    session = verifier()
    run(session, 10)
    session.receive(Block(1, [10, 11], [root(3), 1], [1, 1]))
    assert [session.tree[node].token for node in session.tree] == [11]
    assert session.tree[2].parent == ROOT


def test_a_child_of_a_node_that_was_committed_meanwhile_finds_its_place() -> None:
    session = verifier()
    session.receive(Block(1, [10], [root(3)], [1]))
    assert run(session, 10, 11).verdict.tokens == [10, 11]
    session.receive(Block(2, [11, 12], [1, 2], [1, 1]))
    assert {node: session.tree[node].token for node in session.tree} == {3: 12}


def test_a_late_block_that_no_longer_continues_the_text_is_dropped() -> None:
    session = verifier()
    run(session, 10)
    session.receive(Block(1, [77, 78], [root(3), 1], [1, 1]))
    assert len(session.tree) == 0 and not session.ready


@pytest.mark.parametrize(
    ("first", "parents"),
    [
        (1, [2, 1]),
        (1, [root(4), 1]),
        (1, [1, 1]),
        (0, [root(3), 1]),
        (2**31 - 1, [root(3), 1]),
        (2**30 - 1, [root(3), root(3)]),  # the second id would be one of the server's own
    ],
)
def test_a_block_that_breaks_the_protocol_is_refused_whole(first: int, parents: list[int]) -> None:
    session = verifier()
    with pytest.raises(BadBlock):
        session.receive(Block(first, [10, 11], parents, [1, 1]))
    assert len(session.tree) == 0


def test_node_ids_are_never_used_twice() -> None:
    session = verifier()
    session.receive(Block(1, [10], [root(3)], [1]))
    with pytest.raises(BadBlock):
        session.receive(Block(1, [11], [root(3)], [1]))


def test_the_tree_is_bounded() -> None:
    with pytest.raises(BadBlock):
        verifier(max_waiting_nodes=3).receive(Block(1, [10, 11, 12, 13], [root(3)] * 4, [1] * 4))
    with pytest.raises(BadBlock, match="more than 3"):  # the first piece of it
        verifier(max_waiting_nodes=3).receive(Block(1, [10, 11], [root(3)] * 2, [1] * 2, following=2))


def test_nodes_that_repeat_what_was_looked_up_count_against_the_bound() -> None:
    session = looking_up(max_waiting_nodes=20)
    session.probabilities()
    with pytest.raises(BadBlock, match="more than 20 nodes"):
        for node in range(1, 40):
            session.receive(Block(node, [4], [root(10)], [1]))


def test_the_likeliest_connected_nodes_are_verified_first() -> None:
    session = verifier(draft_rows=3)
    session.receive(Block(1, [10, 20, 11, 12], [root(3), root(3), 1, 3], [0.6, 0.4, 0.9, 0.1]))
    assert session.plan().nodes == [ROOT, 1, 3, 2]


@pytest.mark.parametrize(
    ("options", "decided", "accepted", "finish"),
    [
        ({"end_tokens": (11,)}, [10, 11, 12, 13], 2, "stop"),
        ({"max_new_tokens": 2}, [10, 11], 1, "length"),
        ({"max_new_tokens": 3, "end_tokens": (11,)}, [10, 11, 12], 2, "stop"),
    ],
)
def test_a_text_that_ends_among_its_drafts_accepts_no_more_than_it_takes(
    options: dict[str, Any], decided: list[int], accepted: int, finish: str
) -> None:
    session = verifier(**options)
    session.receive(Block(1, [10, 11, 12], [root(3), 1, 2], [1, 1, 1]))
    conclusion = run(session, *decided)
    verdict = conclusion.verdict
    assert (verdict.tokens, verdict.finish, conclusion.accepted) == ([10, 11], finish, accepted)
    assert not session.ready


def test_a_block_without_nodes_asks_for_a_plain_forward() -> None:
    session = verifier()
    run(session, 10)
    session.receive(Block(1, [], [], []))
    assert session.ready and run(session, 11).verdict.tokens == [11]
    assert not session.ready


def test_a_long_prompt_goes_in_chunks_and_only_the_last_decides() -> None:
    session = verifier(prefill_rows=2)
    rows = session.plan()
    assert len(rows.piece) == 2 and session.conclude(rows, [], []) is None
    assert run(session, 10).verdict.tokens == [10]


def test_a_next_turn_reads_only_what_is_new() -> None:
    session = verifier(max_new_tokens=1)
    assert run(session, 10).verdict.finish == "length"
    session.append(4, [20, 21], 5)
    assert session.plan().piece.tokens.tolist() == [10, 20, 21]


def test_a_halted_text_waits_for_its_next_turn() -> None:
    session = verifier(options=ServerOptions(fill=True))
    run(session, 10)
    run(session, 11)
    session.append(4, [], 0)
    assert not session.ready and session.text == [*PROMPT, 10]
    session.append(4, [30], 1)
    assert session.plan().piece.tokens.tolist() == [10, 30]


def test_a_hint_is_sent_once_and_only_when_it_is_sure_enough() -> None:
    session = verifier(options=ServerOptions(hint_threshold=0.4))
    session.receive(Block(1, [10], [root(3)], [1]))
    hints = ForwardHints(session, session.plan())
    assert hints.of_decisions([10, 11], [0.5, 0.5]) is None
    hint = hints.of_decisions([10, 11], [0.9, 0.9])
    assert hint is not None and (hint.reference, hint.token) == (1, 11)
    assert hint.confidence == pytest.approx(0.81)
    assert hints.of_decisions([10, 11], [0.99, 0.99]) is None
    changed = hints.of_decisions([12, 0], [0.9, 0.9])
    assert changed is not None and (changed.reference, changed.token) == (root(3), 12)


def test_what_the_text_suggests_is_verified_and_never_committed_unverified() -> None:
    session = looking_up()
    rows = session.plan()
    assert [session.tree[node].token for node in rows.nodes[1:]][:2] == [4, 5]
    conclusion = conclude(session, rows, 4, 9, *[0] * (len(rows.nodes) - 2))
    assert (conclusion.verdict.tokens, conclusion.accepted) == ([4, 9], 0)


@pytest.mark.parametrize("options", [ServerOptions(prompt_lookup=True), ServerOptions(fill=True)])
def test_without_fill_or_lookup_nothing_is_looked_up(options: ServerOptions) -> None:
    assert verifier(REPEATED, options=options).plan().nodes == [ROOT]


def test_a_drafted_node_that_was_looked_up_too_carries_its_children_and_names_hints() -> None:
    session = looking_up(hint_threshold=0.1)
    session.probabilities()
    session.receive(Block(1, [4, 8], [root(10), 1], [1, 1]))
    rows = session.plan()
    tokens = {node: session.tree[node].token for node in rows.nodes if node != ROOT}
    assert 8 in tokens.values()
    decided = [{ROOT: 4}.get(node, 8 if tokens.get(node) == 4 else 30) for node in rows.nodes]
    hint = ForwardHints(session, rows).of_decisions(decided, [1.0] * len(decided))
    assert hint is not None and (hint.reference, hint.token) == (2, 30)
    conclusion = conclude(session, rows, *decided)
    assert (conclusion.verdict.tokens, conclusion.accepted) == ([4, 8, 30], 2)
    assert rows.drafted == 2, "the edge drafted exactly what was accepted"
    session.receive(Block(3, [30, 31], [2, 3], [1, 1]))
    assert [session.tree[node].token for node in session.tree if session.tree[node].parent == ROOT] == [31]


def test_a_hint_behind_a_node_that_the_edge_does_not_know_is_not_sent() -> None:
    session = looking_up(hint_threshold=0.1)
    rows = session.plan()
    others = len(rows.nodes) - 1
    assert ForwardHints(session, rows).of_decisions([4] + [30] * others, [1.0] * (others + 1)) is None


def test_an_engine_without_trees_verifies_the_likeliest_chain() -> None:
    chained = verifier(trees=False)
    chained.receive(Block(1, [5, 6, 7, 8], [root(3), root(3), 2, 2], [0.4, 0.6, 0.2, 0.7]))
    assert chained.probabilities() == pytest.approx([0.6, 0.42])
    rows = chained.plan()
    assert rows.nodes == [ROOT, 2, 4]


def test_a_device_whose_drafts_were_wrong_is_believed_as_little_in_its_next_session() -> None:
    device = Belief()

    def sure(belief: Belief) -> float:
        """What its first sure draft counts for, which turns out to be wrong."""
        session = Verifier(PROMPT, 50, ServerOptions(), VerifierLimits(100), belief=belief)
        session.receive(Block(1, list(range(10, 74)), [root(3), *range(1, 64)], [1.0] * 64))
        counts_for = session.probabilities()[0]
        rows = session.plan()
        conclude(session, rows, *[99] * len(rows.nodes))
        return counts_for

    assert sure(Belief(device)) == 1.0
    assert sure(Belief(device)) < 0.1
    assert sure(Belief()) == 1.0, "of another device nothing is known"
    for _ in range(400):
        device.observe(0.0, 0)
    assert sure(Belief(device)) == 1.0, "what was long ago is forgotten"


@pytest.mark.parametrize(
    ("tokens", "walk"),
    [
        ([9, 7, 8], [1]),  # another token was decided there
        ([5, 6, 8], [2]),  # a node that is not the row's child
        ([5, 6, 8], [1, 1]),
        ([5, 6, 8], [3]),  # no row
        ([5, 6, 8], [-2, 2]),
        ([5, 6, -1], [1, 2]),  # nothing was decided behind the path
    ],
)
def test_a_walk_that_does_not_follow_its_tree_is_an_error_and_commits_nothing(
    tokens: list[int], walk: list[int]
) -> None:
    session = verifier()
    session.receive(Block(1, [5, 6], [root(3), 1], [1, 1]))
    rows = session.plan()
    with pytest.raises(EdgespecError, match="does not follow its own tokens"):
        session.conclude(rows, tokens, walk)
    assert session.text == PROMPT and session.forwards == 0
    assert conclude(session, rows, 5, 6, 8).verdict.tokens == [5, 6, 8]
