"""`auto` chooses from what it measurements: what it is after, what pays, and says why."""

import math

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.messages import Hint
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.drafting.auto import OBJECTIVES, REST_FORWARDS, SPARE_MS, Auto
from edgespec.drafting.modes import policy
from edgespec.drafting.speculator import Speculator
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulation import Outcome, Timing, simulate

ONE_WAY_MS = 20.0
TIMING = Timing(up_ms=lambda: ONE_WAY_MS, down_ms=lambda: ONE_WAY_MS)
TOKENS = 300


def played(auto: Auto, acceptance: float = 0.69, timing: Timing = TIMING) -> Outcome:
    return simulate(CalibratedModel(acceptance), auto, [1, 2, 3], max_new_tokens=TOKENS, timing=timing)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return {objective: played(Auto(objective=objective)) for objective in OBJECTIVES}


def test_the_text_is_the_same_whatever_it_is_after(outcomes: dict[str, Outcome]) -> None:
    assert len({tuple(outcome.text) for outcome in outcomes.values()}) == 1


def test_cost_takes_fewer_forwards_than_latency(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["cost"].forwards < 0.75 * outcomes["latency"].forwards


def test_energy_drafts_less_than_latency(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["energy"].counts.drafted < 0.4 * outcomes["latency"].counts.drafted


def test_latency_is_the_fastest(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["latency"].milliseconds == min(outcome.milliseconds for outcome in outcomes.values())


def test_a_budget_buys_back_time(outcomes: dict[str, Outcome]) -> None:
    within = played(Auto(objective="cost", budget=0.55))
    assert outcomes["cost"].forwards < within.forwards <= 0.58 * TOKENS
    assert within.milliseconds < outcomes["cost"].milliseconds


def test_a_draft_that_is_never_right_is_put_to_rest(outcomes: dict[str, Outcome]) -> None:
    auto = Auto()
    outcome = played(auto, acceptance=0.0)
    assert outcome.counts.drafted < 0.35 * outcomes["latency"].counts.drafted
    assert "drafts" in auto.reasons["depth"]


def test_a_draft_at_rest_is_tried_again() -> None:
    auto, measurements = Auto(), Measurements(acceptance=0.01)
    view = Speculator()
    view.extend([1, 2, 3], 0, 100)
    depths = []
    for forwards in range(8, 8 * 20, 8):
        measurements.forwards = forwards
        auto.adapt(view, measurements)
        depths.append(auto.depth)
        assert bool(auto.expand(view)) == bool(auto.depth)
    assert 0 in depths and 12 in depths[depths.index(0) :]
    assert depths.count(0) * 8 >= REST_FORWARDS


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"objective": "speed"}, "there is no objective 'speed'"),
        ({"budget": 0.5}, "a budget is a number of target forwards"),
        ({"objective": "cost", "budget": 1.5}, "a budget is a number of target forwards"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        Auto(**options)  # type: ignore[arg-type]


def test_other_modes_take_no_objective() -> None:
    with pytest.raises(EdgespecError, match="only mode 'auto'"):
        policy("sync", objective="cost")


def hints(auto: Auto) -> bool:
    return auto.options.hint_threshold is not None


def test_hints_whose_exits_are_dear_are_off_after_a_short_trial() -> None:
    auto, measurements = Auto(), Measurements(rtt_ms=0.0)
    view = Speculator()
    view.extend([1, 2, 3], 0, 100)
    hinted = 0
    for _ in range(40):
        measurements.observe_forward(4, 14.0 if hints(auto) else 10.0, hints(auto), 2)
        hinted += hints(auto)
        auto.adapt(view, measurements)
    assert not hints(auto) and hinted == 3
    assert auto.reasons["hints"].startswith("off")


def settled(rtt_ms: float, objective: str = "latency") -> Auto:
    auto, measurements = Auto(objective=objective), Measurements(rtt_ms=rtt_ms)
    view = Speculator()
    view.extend([1, 2, 3], 0, 100)
    for _ in range(20):
        measurements.observe_forward(4, 10.0, hints(auto), 2)
        auto.adapt(view, measurements)
    return auto


def test_a_long_way_carries_no_thin_branches_and_no_doubtful_hints() -> None:
    near, far = settled(0.0), settled(15.0)
    assert near.send_floor == near.floor < far.send_floor
    assert near._threshold < far._threshold
    assert "1.5 forwards" in far.reasons["sending"]


def holding(slack_ms: float, probability: float, sent: bool = True, draft_full: bool = False) -> float:
    """How long a node of that probability is held, with a draft of 6 ms a run."""
    auto = settled(40.0)
    auto._run_ms = 6.0
    view = Speculator()
    view.extend([1, 2, 3], 0, 100)
    view.add_children(ROOT, [5], view.found(ROOT, [5], [0.9]))
    if sent:
        view.block(list(view.tree))
    view.draft_full = draft_full
    view.hint(Hint(3, COMMITTED_BIT | 3, 7, probability))
    assert view.hinted is not None
    view.slack_ms = slack_ms
    return auto.hold_ms(view, [view.hinted])


def test_nodes_wait_for_a_further_run_that_reaches_the_same_forward() -> None:
    assert holding(slack_ms=20.0, probability=0.5) == 20.0 - SPARE_MS
    assert holding(slack_ms=5.0, probability=0.5) == 0.0


def test_with_nothing_more_to_draft_they_wait_for_a_verdict_as_long_as_they_are_in_time() -> None:
    assert holding(slack_ms=5.0, probability=0.5, draft_full=True) == 5.0 - SPARE_MS
    assert holding(slack_ms=SPARE_MS, probability=0.5, draft_full=True) == 0.0


def test_a_thin_node_that_may_come_too_late_waits_for_the_verdict_if_one_is_due() -> None:
    assert holding(slack_ms=0.0, probability=0.01) == math.inf
    assert holding(slack_ms=0.0, probability=0.5) == 0.0
    assert holding(slack_ms=0.0, probability=0.01, sent=False) == 0.0


def test_energy_sends_nothing_less_likely_than_it_drafts() -> None:
    assert settled(15.0, "energy").send_floor == settled(15.0, "energy").floor


def test_without_hints_none_are_asked_for_and_the_text_is_the_same() -> None:
    near = Timing(up_ms=lambda: 2.0, down_ms=lambda: 2.0)
    played_with, played_without = (
        played(policy(mode), timing=near)  # type: ignore[arg-type]
        for mode in ("auto", "auto-no-hints")
    )
    assert played_without.text == played_with.text
    assert played_with.counts.hints_sent > 0 == played_without.counts.hints_sent


def test_hints_that_would_come_too_late_are_not_even_tried(outcomes: dict[str, Outcome]) -> None:
    auto = Auto()
    assert played(auto).counts.hints_sent == 0
    assert auto.reasons["hints"] == "off: too late after 1.4 forwards of a round trip"


def with_server_draft(
    server_draft_ms: float, one_way_ms: float, objective: str = "latency"
) -> tuple[Auto, Outcome]:
    auto = Auto(objective=objective)
    timing = Timing(
        up_ms=lambda: one_way_ms, down_ms=lambda: one_way_ms, server_draft_ms=lambda rows: server_draft_ms
    )
    outcome = simulate(CalibratedModel(0.69), auto, [1, 2, 3], max_new_tokens=TOKENS, timing=timing)
    return auto, outcome


def test_on_a_long_way_the_servers_draft_is_used_where_that_is_faster() -> None:
    auto, outcome = with_server_draft(server_draft_ms=1.0, one_way_ms=80.0)
    alone = simulate(
        CalibratedModel(0.69),
        Auto(),
        [1, 2, 3],
        max_new_tokens=TOKENS,
        timing=Timing(up_ms=lambda: 80.0, down_ms=lambda: 80.0),
    )
    assert outcome.text == alone.text
    assert outcome.milliseconds < 0.8 * alone.milliseconds
    assert auto.options.server_draft == "lent" and auto.reasons["drafter"].startswith("the server drafts")


@pytest.mark.parametrize(("server_ms", "lent"), [(10.0, True), (30.0, False)])
def test_a_next_session_begins_with_the_drafter_that_was_found_faster(server_ms: float, lent: bool) -> None:
    measurements = Measurements(rtt_ms=40.0, server_drafts=True)
    for _ in range(10):
        measurements.observe_forward(0, 28.0, hints=False, tokens=1)
        measurements.observe_tokens(1, 20.0, server_draft=False)
        measurements.observe_tokens(1, server_ms, server_draft=True)
    auto = Auto()
    auto.adapt(Speculator(), measurements)
    assert (auto.options.server_draft == "lent") is lent


@pytest.mark.parametrize("server_ms", [10.0, 30.0])
def test_a_next_session_tries_the_slower_drafter_again_once_that_is_long_ago(server_ms: float) -> None:
    measurements = Measurements(rtt_ms=40.0, server_drafts=True)
    for lent in [server_ms > 20.0] * 10 + [server_ms < 20.0] * 600:  # the slower one first
        measurements.observe_forward(0, 28.0, hints=False, tokens=1)
        measurements.observe_tokens(1, server_ms if lent else 20.0, lent)
    auto = Auto()
    auto.adapt(Speculator(), measurements)
    assert (auto.options.server_draft == "lent") is (server_ms > 20.0)


def test_a_trial_of_the_servers_draft_that_a_texts_end_cut_short_is_made_up_for_by_the_next_session() -> None:
    measurements = Measurements(rtt_ms=40.0, server_drafts=True)
    for lent in [False] * 10 + [True] * 3:
        measurements.observe_forward(0, 28.0, hints=False, tokens=1)
        measurements.observe_tokens(1, 40.0 if lent else 20.0, lent)
    auto = Auto()
    auto.adapt(Speculator(), measurements)
    assert auto.options.server_draft == "lent"


def test_a_slow_draft_of_the_servers_is_given_back() -> None:
    auto, _ = with_server_draft(server_draft_ms=30.0, one_way_ms=5.0)
    assert auto.options.server_draft == "off" and auto.reasons["drafter"].startswith("this device drafts")


def test_a_session_that_saves_forwards_takes_no_server_time() -> None:
    auto, _ = with_server_draft(server_draft_ms=1.0, one_way_ms=80.0, objective="cost")
    assert auto.options.server_draft == "off"


def on_a_link(auto: Auto, rtt_ms: float, forwards: int, since: Measurements | None = None) -> Measurements:
    """Plain forwards of 28 ms at that round trip."""
    measurements = since or Measurements()
    measurements.rtt_ms = rtt_ms
    for _ in range(forwards):
        measurements.observe_forward(0, 28.0, hints=False, tokens=1)
        auto.adapt(Speculator(), measurements)
    return measurements


def test_on_a_link_that_is_full_it_is_as_cloud_and_says_so() -> None:
    auto = Auto()
    measurements = on_a_link(auto, 40.0, 20)
    assert auto.depth and "link" not in auto.reasons
    on_a_link(auto, 400.0, 1, measurements)
    assert auto.depth == 0 and not hints(auto) and not auto.options.max_wait_ms
    assert auto.reasons["link"].startswith("the link is full: a round trip took 40 ms and takes 400 ms now")
    on_a_link(auto, 50.0, REST_FORWARDS + 8, measurements)
    assert auto.depth and "link" not in auto.reasons


def test_a_link_that_was_always_slow_is_not_full() -> None:
    auto = Auto()
    on_a_link(auto, 900.0, 20)
    assert auto.depth and "link" not in auto.reasons
