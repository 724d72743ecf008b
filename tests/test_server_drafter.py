"""Mode `colocated`: the server drafts for an edge that cannot, and the text is the target's."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_models import HashModel
from stubs import VOCABULARY, StubDraft, StubTarget, StubTokenizer, hosted, play, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.auto import Auto
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.modes import policy
from edgespec.drafting.policies import Sync
from edgespec.drafting.speculator import Speculator
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.server.server import Server
from edgespec.server.server_drafter import ServerDrafter, ServerDrafters
from edgespec.sim.simulation import Timing, simulate

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.7)


def session(server: Server, **params: Any) -> Session:
    return Session(
        ("127.0.0.1", server.port),
        params=SamplingParams(**{"max_new_tokens": 40, "seed": 1, **params}),
        mode="colocated",
        tokenizer=StubTokenizer(),  # type: ignore[arg-type]
    )


def test_the_text_is_the_targets_in_fewer_forwards_and_the_edge_sends_nothing() -> None:
    with serving(StubTarget(SCRIPTED), server_drafters=hosted(SCRIPTED)) as server, session(server) as one:
        play(one, PROMPT)
        assert one.tokens == SCRIPTED.continuation(PROMPT, 40)
        assert one.statistics.target_forwards < 30
        assert one.statistics.sent == one.statistics.drafted == 0


class ShortDraft(StubDraft):
    capacity = 200


@pytest.mark.parametrize("hosts_draft", [True, False])
def test_a_text_that_a_draft_cannot_hold_goes_on_without_it(hosts_draft: bool) -> None:
    prompt = [number % VOCABULARY for number in range(400)]
    drafters = hosted(SCRIPTED, ShortDraft) if hosts_draft else None
    with serving(StubTarget(SCRIPTED), server_drafters=drafters) as server:
        edge = stub_session(server.port, scripted=SCRIPTED, draft=ShortDraft(SCRIPTED))
        with session(server) if hosts_draft else edge as one:
            play(one, prompt)
            assert one.tokens == SCRIPTED.continuation(prompt, 40)


def test_an_edge_whose_draft_is_full_sleeps_until_the_next_verdict_and_drafts_the_next_turn_that_fits() -> (
    None
):
    loop = DraftingLoop(Sync())
    drafter = Drafter(ShortDraft(SCRIPTED), 0.0, 0, VOCABULARY)  # type: ignore[arg-type]
    loop.begin([number % VOCABULARY for number in range(400)], 0, 40)
    assert [drafter.run(loop) for _ in range(4)] == [0, 0, None, None]
    loop.begin([7, 8], 30, 40)
    drafter.truncate(30)
    assert drafter.run(loop) == 1


def test_a_long_text_is_read_piece_by_piece_while_its_session_goes_on() -> None:
    engine, text = StubDraft(SCRIPTED), [number % VOCABULARY for number in range(450)]
    drafter = ServerDrafter(Drafter(engine, 0.0, 0, VOCABULARY), text, 20)  # type: ignore[arg-type]
    chains = [drafter.draft() for _ in range(4)]
    assert [chain if chain is None else len(chain) for chain in chains] == [0, 0, 4, None]


def test_a_next_turn_and_a_cancelled_one_go_on_from_the_text() -> None:
    with serving(StubTarget(SCRIPTED), server_drafters=hosted(SCRIPTED)) as server, session(server) as one:
        one.prompt(PROMPT)
        one.step()
        one.cancel()
        text = [*PROMPT, *one.tokens, 7, 8]
        one.append([7, 8], max_new_tokens=12)
        list(one)
        assert one.tokens == SCRIPTED.continuation(text, 12)


def test_a_server_without_a_draft_refuses_in_a_sentence() -> None:
    with serving(StubTarget(SCRIPTED)) as server, session(server) as one:
        one.prompt(PROMPT)
        with pytest.raises(EdgespecError, match=r"hosts no draft for mode 'colocated'.*--colocated-draft"):
            one.step()


def test_a_draft_of_another_vocabulary_is_refused_when_the_server_starts() -> None:
    with pytest.raises(EdgespecError, match="another vocabulary than the target"):
        ServerDrafters(bundled_engine(), bytes(32), 4096)


class Fickle(Auto):
    """Uses the server's draft and its own by turns."""

    name = "fickle"

    def adapt(self, view: Speculator, measurements: Measurements) -> None:
        lent = measurements.forwards % 7 < 4
        self.options = ServerOptions(
            fill=True, server_draft="lent" if lent else "off", hint_threshold=None if lent else 0.3
        )
        assert measurements.server_drafts


def test_a_server_draft_that_is_lent_and_given_back_by_turns_changes_no_token() -> None:
    lent: list[ServerDrafter] = []

    def server_drafters(*arguments: Any) -> ServerDrafter:
        lent.append(hosted(SCRIPTED)(*arguments))
        return lent[-1]

    with (
        serving(StubTarget(SCRIPTED), server_drafters=server_drafters) as server,
        stub_session(
            server.port, scripted=HashModel(draft_right=0.3), mode=Fickle(), max_new_tokens=120
        ) as one,
    ):
        play(one, PROMPT)
        assert one.tokens == SCRIPTED.continuation(PROMPT, 120)
        text = [*PROMPT, *one.tokens, 7, 8]
        one.append([7, 8], max_new_tokens=30)
        list(one)
        assert one.tokens == SCRIPTED.continuation(text, 30)
    assert len(lent) > 2, "it was lent anew each time"


@pytest.mark.parametrize("hosts_draft", [True, False])
def test_what_an_earlier_session_found_faster_drafts_from_the_first_token_where_it_is_hosted(
    hosts_draft: bool,
) -> None:
    measured = Measurements()
    for _ in range(20):
        measured.observe_forward(0, 5.0, 1)
        measured.observe_tokens(1, 20.0, server_draft=False)
        measured.observe_tokens(1, 5.0, server_draft=True)
    with (
        serving(StubTarget(SCRIPTED), server_drafters=hosted(SCRIPTED) if hosts_draft else None) as server,
        stub_session(server.port, scripted=SCRIPTED, mode="auto", measurements=measured) as one,
    ):
        one.prompt(PROMPT)
        assert (one.policy.options.server_draft == "lent") is hosts_draft
        list(one)
    assert one.tokens == SCRIPTED.continuation(PROMPT, 40)
    if hosts_draft:
        assert one.statistics.sent == 0 and one.statistics.target_forwards < 36


def test_engines_that_were_given_back_are_used_again() -> None:
    engine = load_draft(bundled_engine())
    server_drafters = ServerDrafters(bundled_engine(), engine.vocabulary_hash, engine.vocabulary_size)
    first = server_drafters(PROMPT, SamplingParams(), 1, 10, "one")
    other = server_drafters(PROMPT, SamplingParams(), 1, 10, "one")
    assert first is not None and other is not None
    assert other._drafter._engine is not first._drafter._engine
    engine = first._drafter._engine
    first.close()
    assert server_drafters(PROMPT, SamplingParams(), 1, 10, "one")._drafter._engine is engine
    assert server_drafters(PROMPT, SamplingParams(), 1, 10, "one")._drafter._engine is not engine


def test_a_device_has_its_share_of_the_hosted_drafts() -> None:
    engine = load_draft(bundled_engine())
    make = ServerDrafters(bundled_engine(), engine.vocabulary_hash, engine.vocabulary_size, most=4)
    of_one = [make(PROMPT, SamplingParams(), 1, 10, "one") for _ in range(4)]
    assert [drafter is None for drafter in of_one] == [False, False, False, True]
    assert make(PROMPT, SamplingParams(), 1, 10, "other") is not None
    assert make(PROMPT, SamplingParams(), 1, 10, "third") is None
    of_one[0].close()  # type: ignore[union-attr]
    assert make(PROMPT, SamplingParams(), 1, 10, "third") is not None


def test_the_servers_draft_and_target_share_its_time_in_simulation() -> None:
    timing = Timing(draft_ms=lambda rows: 5.0, forward_ms=lambda rows: 30.0)
    always_right = HashModel(draft_right=1.0)
    outcome = simulate(always_right, policy("colocated"), PROMPT, max_new_tokens=100, timing=timing)
    assert outcome.text == always_right.continuation(PROMPT, 100)
    assert outcome.forwards == 20
    assert outcome.milliseconds == pytest.approx(20 * (30 + 4 * 5) + 20, abs=5)
