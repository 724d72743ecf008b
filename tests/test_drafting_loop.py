"""The drafting loop by itself: messages and findings in, what to draft and to send out."""

from dataclasses import replace

import pytest

from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.drafting.loop import DraftingLoop, Found
from edgespec.drafting.modes import POLICIES
from edgespec.drafting.policies import Cloud, Predicted, Preempt, Stream, Sync
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import OutOfStep

PROMPT = [1, 2, 3]


def begun(policy: Policy, max_new_tokens: int = 20) -> DraftingLoop:
    loop = DraftingLoop(policy)
    loop.begin(PROMPT, 0, max_new_tokens)
    loop.open()
    return loop


def draft(loop: DraftingLoop) -> list[int]:
    """Let the draft run until it has nothing to do: behind every node it finds the next integers."""
    drafted = []
    while nodes := loop.next_draft():
        for node in nodes:
            last = loop.text[-1] if node == ROOT else loop.tree[node].token
            loop.on_draft([Found(node, [last + 1, last + 2], [0.9, 0.05])], 1.0)
            drafted.append(last + 1)
    return drafted


def test_sync_drafts_a_chain_sends_it_once_and_waits_for_its_verdict() -> None:
    loop = begun(Sync(3))
    assert draft(loop) == [4, 5, 6]
    (block,) = loop.outgoing(0.0)
    assert isinstance(block, Block)
    assert (block.tokens, block.parents) == ([4, 5, 6], [COMMITTED_BIT | 3, 1, 2])
    assert loop.outgoing(1.0) == [] and not loop.next_draft()
    committed = loop.on_message(Verdict(3, [4, 5, 9], rows=3), 2.0)
    assert len(committed) == 2 and loop.text == [1, 2, 3, 4, 5, 9]
    assert (loop.counts.sent, loop.counts.accepted, loop.counts.rounds) == (3, 2, 1)
    assert draft(loop) == [10, 11, 12]


@pytest.mark.parametrize("mode", POLICIES)
def test_drafting_ends_while_a_verdict_is_out_however_long_it_takes(mode: str) -> None:
    loop = begun(POLICIES[mode](), 10_000)
    draft(loop)
    loop.outgoing(0.0)
    assert len(draft(loop)) <= 100


def test_predicted_drafts_a_block_behind_each_of_the_likeliest_verdicts() -> None:
    loop = begun(Predicted(2))
    assert draft(loop) == [4, 5]
    loop.outgoing(0.0)
    behind_the_block, behind_a_rejection = [6, 7], [6, 7]
    assert draft(loop) == [*behind_the_block, 8, *behind_a_rejection, 7, 8]


def test_a_verdict_that_does_not_continue_the_text_is_refused() -> None:
    with pytest.raises(OutOfStep, match="at 4 came to a text of 3"):
        begun(Cloud()).on_message(Verdict(4, [5]), 0.0)


def test_a_hint_starts_the_next_chain_and_a_late_one_is_ignored() -> None:
    loop = begun(Preempt(2))
    draft(loop)
    loop.outgoing(0.0)
    loop.on_message(Hint(3, 2, 30, 0.9), 1.0)
    assert draft(loop) == [31, 32]
    loop.on_message(Verdict(3, [4, 5, 30], rows=2), 2.0)
    before = len(loop.tree)
    loop.on_message(Hint(3, 2, 40, 0.9), 3.0)
    assert len(loop.tree) == before and loop.counts.hints_sent == 2 and loop.counts.hints_hit == 1


def test_a_server_that_does_not_fill_is_asked_for_a_plain_forward_when_nothing_can_be_drafted() -> None:
    loop = begun(Sync(3))
    loop.draft_full = True
    assert loop.outgoing(0.0) == [Block(1, [], [], [])] and loop.outgoing(1.0) == []


def test_what_is_held_back_says_when_to_ask_again() -> None:
    class Holding(Sync):
        def hold_ms(self, view: object, nodes: object) -> float:
            return 5.0

    loop = begun(Holding(2))
    draft(loop)
    assert loop.outgoing(10.0) == [] and loop.wake_ms == 15.0


class Choosing(Stream):
    """Asks for hints after the first verdict."""

    def adapt(self, view: object, measurements: object) -> None:
        self.options = replace(self.options, hint_threshold=0.5)


def test_changed_options_are_sent_once_and_a_new_server_is_told_by_its_open() -> None:
    loop = begun(Choosing(options=ServerOptions(fill=True)))
    loop.on_message(Verdict(3, [7]), 0.0)
    changed = ServerOptions(fill=True, hint_threshold=0.5)
    assert loop.outgoing(1.0) == [changed] and loop.outgoing(2.0) == []
    assert loop.open() == changed and loop.outgoing(3.0) == []


def test_another_server_is_sent_again_what_is_still_worth_it() -> None:
    loop = begun(Sync(2))
    draft(loop)
    (first,) = loop.outgoing(0.0)
    loop.open()
    (again,) = loop.outgoing(1.0)
    assert isinstance(first, Block) and isinstance(again, Block)
    assert (again.tokens, again.first_node) == (first.tokens, first.first_node + 2)


def test_a_turn_may_end_early_and_the_next_goes_behind_what_is_kept() -> None:
    loop = begun(Sync(2))
    loop.on_message(Verdict(3, [7, 8]), 0.0)
    loop.begin([], 4, 0)
    assert loop.text == [*PROMPT, 7] and not loop.next_draft() and loop.outgoing(1.0) == []
    loop.begin([20], 4, 5)
    assert loop.turn_start == 5 and draft(loop) == [21, 22]
