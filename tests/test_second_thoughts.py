"""What the target chose behind a rejected token is guessed behind the correction, as long as that comes true."""

from collections.abc import Sequence

import pytest
from scripted_models import HashModel, hashed

from edgespec.core.messages import Block
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.drafting.modes import policy
from edgespec.sim.simulation import Timing, simulate
from edgespec.verifying.verifier import Verifier, VerifierLimits

PROMPT = [1, 2, 3]
FILLING = ServerOptions(fill=True, prompt_lookup=True)


def verifier_with_a_wrong_chain(options: ServerOptions = FILLING, guesses: bool = True) -> Verifier:
    """The edge drafted 5, 6, 7; the target says 4, and behind the rejected ones 6, 8 and 9."""
    verifier = Verifier(PROMPT, 50, options, VerifierLimits(100, guesses=guesses))
    verifier.receive(Block(1, [5, 6, 7], [COMMITTED_BIT | 3, 1, 2], [0.9, 0.9, 0.9]))
    rows = verifier.plan()
    assert [verifier.tree[node].token for node in rows.nodes[1:]] == [5, 6, 7]
    verifier.conclude(rows, [4, 6, 8, 9], [])
    return verifier


def planned(verifier: Verifier) -> list[int]:
    return [verifier.tree[node].token for node in verifier.plan().nodes if node != ROOT]


def test_the_targets_choices_behind_rejected_nodes_follow_the_correction() -> None:
    verifier = verifier_with_a_wrong_chain()
    assert verifier.text == [*PROMPT, 4]
    assert planned(verifier) == [6, 8]


def test_a_row_that_an_engine_of_chains_did_not_decide_is_no_guess() -> None:
    verifier = Verifier(PROMPT, 50, FILLING, VerifierLimits(100))
    verifier.receive(Block(1, [5, 6, 7], [COMMITTED_BIT | 3, 1, 2], [0.9, 0.9, 0.9]))
    verifier.conclude(verifier.plan(), [4, -1, -1, -1], [])
    assert verifier.text == [*PROMPT, 4] and planned(verifier) == []


def test_they_are_not_drafted_nodes() -> None:
    verifier = verifier_with_a_wrong_chain()
    rows = verifier.plan()
    assert rows.drafted == 0 and not verifier.asked
    conclusion = verifier.conclude(rows, [6, 8, 1], [1, 2])
    assert conclusion is not None and conclusion.verdict.tokens == [6, 8, 1] and conclusion.accepted == 0


@pytest.mark.parametrize(
    ("options", "guesses"),
    [(FILLING, False), (ServerOptions(fill=True), True), (ServerOptions(prompt_lookup=True), True)],
)
def test_there_are_none_where_they_are_not_wanted(options: ServerOptions, guesses: bool) -> None:
    assert len(verifier_with_a_wrong_chain(options, guesses).tree) == 0


def test_guesses_that_never_come_true_are_given_up() -> None:
    verifier, given_up = verifier_with_a_wrong_chain(), 0
    for token in range(60):
        given_up += len(verifier.tree) == 0
        verifier.receive(Block(token + 10, [30], [COMMITTED_BIT | len(verifier.text)], [0.9]))
        rows = verifier.plan()
        decided = [token % 7, *([40] * (len(rows.nodes) - 1))]
        if verifier.conclude(rows, decided, rows.tree.walk(decided)) is None or verifier.finish:
            break
    assert given_up >= 5


class EveryOther(HashModel):
    """A target whose tokens hardly depend on the one before: what follows a wrong token follows the right one too."""

    def target(self, text: Sequence[int]) -> int:
        return hashed([len(text)], self.seed) % 50


def test_texts_whose_tokens_hang_together_loosely_take_fewer_forwards() -> None:
    scripted, forwards = EveryOther(draft_right=0.0), {}
    for guesses in (True, False):
        timing = Timing(up_ms=lambda: 2.0, down_ms=lambda: 2.0)
        outcome = simulate(
            scripted, policy("stream", 4), PROMPT, max_new_tokens=100, timing=timing, guesses=guesses
        )
        assert outcome.text == scripted.continuation(PROMPT, 100)
        forwards[guesses] = outcome.forwards
    assert forwards[True] < 0.8 * forwards[False]
