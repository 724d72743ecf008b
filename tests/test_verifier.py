"""The server's half of a session: late blocks, early ends, refused blocks, hints worth sending."""

from dataclasses import replace

import pytest

from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import ROOT
from edgespec.drafting.speculator import COMMITTED_BIT
from edgespec.verifying.verifier import BadBlock, Verdict, Verifier

PROMPT = [1, 2, 3]


def root(length: int) -> int:
    return COMMITTED_BIT | length


def verifier(**options: object) -> Verifier:
    settings = {
        "max_new_tokens": 50,
        "end_tokens": (),
        "context_length": 100,
        "options": ServerOptions(),
        **options,
    }
    return Verifier(PROMPT, **settings)  # type: ignore[arg-type]


def run(session: Verifier, *decided: int) -> Verdict:
    """One forward whose decided rows give these tokens."""
    forward = session.plan()
    assert len(forward.nodes) == len(decided)
    verdict = session.conclude(forward, decided)
    assert verdict is not None
    return verdict


def test_the_prompt_gives_the_first_token_without_any_draft() -> None:
    session = verifier()
    assert session.ready
    assert run(session, 10).tokens == [10]
    assert not session.ready


def test_accepted_nodes_and_the_correction_are_committed_together() -> None:
    session = verifier()
    session.receive(1, [10, 11, 12], [root(3), 1, 2], [1, 1, 1])
    verdict = run(session, 10, 11, 99, 50)
    assert verdict.tokens == [10, 11, 99] and verdict.base_length == 3 and verdict.picks == [0, 1, 2]
    assert len(session.tree) == 0 and session.slots.cached_length == 5


def test_a_block_for_a_text_that_has_grown_meanwhile_finds_its_place() -> None:
    session = verifier()
    run(session, 10)
    session.receive(1, [10, 11], [root(3), 1], [1, 1])
    assert [session.tree.token(node) for node in session.tree] == [11]
    assert session.tree.parent(2) == ROOT


def test_a_child_of_a_node_that_was_committed_meanwhile_finds_its_place() -> None:
    session = verifier()
    session.receive(1, [10], [root(3)], [1])
    assert run(session, 10, 11).tokens == [10, 11]
    session.receive(2, [11, 12], [1, 2], [1, 1])
    assert {node: session.tree.token(node) for node in session.tree} == {3: 12}


def test_a_late_block_that_no_longer_continues_the_text_falls_away() -> None:
    session = verifier()
    run(session, 10)
    session.receive(1, [77, 78], [root(3), 1], [1, 1])
    assert len(session.tree) == 0 and not session.ready


@pytest.mark.parametrize(
    ("first", "parents"),
    [(1, [2, 1]), (1, [root(4), 1]), (1, [1, 1]), (0, [root(3), 1]), (2**31 - 1, [root(3), 1])],
)
def test_a_block_that_breaks_the_protocol_is_refused_whole(first: int, parents: list[int]) -> None:
    session = verifier()
    with pytest.raises(BadBlock):
        session.receive(first, [10, 11], parents, [1, 1])
    assert len(session.tree) == 0


def test_node_ids_are_never_used_twice() -> None:
    session = verifier()
    session.receive(1, [10], [root(3)], [1])
    with pytest.raises(BadBlock):
        session.receive(1, [11], [root(3)], [1])


def test_the_tree_is_bounded() -> None:
    session = verifier(max_nodes=3)
    with pytest.raises(BadBlock):
        session.receive(1, [10, 11, 12, 13], [root(3)] * 4, [1] * 4)


def test_the_likeliest_connected_nodes_are_verified_first() -> None:
    session = verifier(draft_rows=3)
    session.receive(1, [10, 20, 11, 12], [root(3), root(3), 1, 3], [0.6, 0.4, 0.9, 0.1])
    assert session.plan().nodes == [ROOT, 1, 3, 2]


def test_the_text_ends_at_an_end_token_inside_an_accepted_block() -> None:
    session = verifier(end_tokens=(11,))
    session.receive(1, [10, 11, 12], [root(3), 1, 2], [1, 1, 1])
    verdict = run(session, 10, 11, 12, 13)
    assert verdict.tokens == [10, 11] and verdict.finish == "stop"
    assert not session.ready


def test_the_text_ends_at_its_limit_inside_an_accepted_block() -> None:
    session = verifier(max_new_tokens=2)
    session.receive(1, [10, 11, 12], [root(3), 1, 2], [1, 1, 1])
    verdict = run(session, 10, 11)
    assert verdict.tokens == [10, 11] and verdict.finish == "length"


def test_a_block_without_nodes_asks_for_a_plain_forward() -> None:
    session = verifier()
    run(session, 10)
    session.receive(1, [], [], [])
    assert session.ready and run(session, 11).tokens == [11]
    assert not session.ready


def test_a_long_prompt_goes_in_chunks_and_only_the_last_decides() -> None:
    session = verifier(prefill_rows=2)
    forward = session.plan()
    assert len(forward.piece) == 2 and session.conclude(forward, []) is None
    assert run(session, 10).tokens == [10]


def test_a_next_turn_reads_only_what_is_new() -> None:
    session = verifier(max_new_tokens=1)
    assert run(session, 10).finish == "length"
    session.append(4, [20, 21], 5)
    forward = session.plan()
    assert forward.piece.tokens.tolist() == [10, 20, 21]


def test_a_halted_text_waits_for_its_next_turn() -> None:
    session = verifier(fill=True)
    run(session, 10)
    run(session, 11)
    session.append(4, [], 0)
    assert not session.ready and session.text == [*PROMPT, 10]
    session.append(4, [30], 1)
    assert session.plan().piece.tokens.tolist() == [10, 30]


def test_a_hint_is_sent_once_and_only_when_it_is_sure_enough() -> None:
    session = verifier(options=ServerOptions(hint_threshold=0.4))
    session.receive(1, [10], [root(3)], [1])
    forward = session.plan()
    assert session.guess(forward, [10, 11], [0.5, 0.5]) is None
    guess = session.guess(forward, [10, 11], [0.9, 0.9])
    assert guess is not None and (guess.reference, guess.token) == (1, 11)
    assert guess.confidence == pytest.approx(0.81)
    assert session.guess(forward, [10, 11], [0.99, 0.99]) is None
    changed = session.guess(forward, [12, 0], [0.9, 0.9])
    assert changed is not None and (changed.reference, changed.token) == (root(3), 12)


REPEATED = [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]


LOOKING_UP = ServerOptions(fill=True, prompt_lookup=True)


def looking_up(hint_threshold: float | None = None, **options: object) -> Verifier:
    """A session whose text says that 4, 5, 6, ... come next."""
    return Verifier(
        REPEATED,
        max_new_tokens=50,
        end_tokens=(),
        context_length=100,
        options=replace(LOOKING_UP, hint_threshold=hint_threshold),
        **options,
    )  # type: ignore[arg-type]


def test_what_the_text_suggests_is_verified_and_never_committed_unverified() -> None:
    session = looking_up()
    forward = session.plan()
    assert [session.tree.token(node) for node in forward.nodes[1:]][:2] == [4, 5]
    verdict = session.conclude(forward, [4, 9] + [0] * (len(forward.nodes) - 2))
    assert verdict is not None
    assert (verdict.tokens, verdict.accepted) == ([4, 9], 0)


def test_a_text_that_ends_among_its_drafts_accepts_no_more_than_it_takes() -> None:
    session = Verifier([1, 2], max_new_tokens=3, end_tokens=(8,), context_length=100, options=ServerOptions())
    session.receive(1, [7, 8, 9], [root(2), 1, 2], [1, 1, 1])
    verdict = session.conclude(session.plan(), [7, 8, 9, 10])
    assert verdict is not None
    assert (verdict.tokens, verdict.finish, verdict.accepted) == ([7, 8], "stop", 2)


def test_without_fill_or_lookup_nothing_is_looked_up() -> None:
    for changes in ({"fill": False}, {"prompt_lookup": False}):
        session = looking_up()
        session.options = replace(LOOKING_UP, **changes)
        assert session.plan().nodes == [ROOT]


def test_a_drafted_node_that_was_looked_up_too_carries_its_children_and_names_hints() -> None:
    session = looking_up(hint_threshold=0.1)
    session.offer()
    session.receive(1, [4, 8], [root(10), 1], [1, 1])
    forward = session.plan()
    tokens = {node: session.tree.token(node) for node in forward.nodes if node != ROOT}
    assert 8 in tokens.values()
    decided = [{ROOT: 4}.get(node, 8 if tokens.get(node) == 4 else 30) for node in forward.nodes]
    hint = session.guess(forward, decided, [1.0] * len(decided))
    assert hint is not None and (hint.reference, hint.token) == (2, 30)
    verdict = session.conclude(forward, decided)
    assert verdict is not None
    assert (verdict.tokens, verdict.accepted) == ([4, 8, 30], 2)
    assert len(forward.nodes) - 1 - forward.looked_up == 2, "the edge drafted as many as were accepted"
    session.receive(3, [30, 31], [2, 3], [1, 1])
    assert [session.tree.token(node) for node in session.tree if session.tree.parent(node) == ROOT] == [31]


def test_a_hint_behind_a_node_that_the_edge_does_not_know_is_not_sent() -> None:
    session = looking_up(hint_threshold=0.1)
    forward = session.plan()
    assert session.guess(forward, [4] + [30] * (len(forward.nodes) - 1), [1.0] * len(forward.nodes)) is None


def test_nodes_that_say_what_was_looked_up_count_against_the_bound() -> None:
    session = looking_up(max_nodes=20)
    session.offer()
    with pytest.raises(BadBlock, match="more than 20 nodes"):
        for node in range(1, 40):
            session.receive(node, [4], [root(10)], [1])


def test_an_edge_cannot_take_the_servers_own_ids() -> None:
    session = looking_up()
    with pytest.raises(BadBlock):
        session.receive(2**30 + 5, [4], [root(10)], [1])
