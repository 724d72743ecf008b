"""`auto` chooses from what it measurements: what it is after, what pays, and says why."""

import math
from collections.abc import Sequence

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.messages import Hint
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.drafting.auto import OBJECTIVES, REST_FORWARDS, SPARE_SHARE, Auto
from edgespec.drafting.modes import policy
from edgespec.drafting.speculator import Speculator
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulation import Outcome, Timing, simulate

TIMING = Timing(up_ms=lambda: 20.0, down_ms=lambda: 20.0)
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
    auto, measurements, view = Auto(), Measurements(), Speculator()
    view.extend([1, 2, 3], 0, 100)
    for _ in range(200):
        measurements.calibration_ratios.best.observe(0.7, came_true=False)
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


def settled(rtt_ms: float, objective: str = "latency") -> Auto:
    """`auto` after 40 forwards of 10 ms."""
    auto, measurements, view = Auto(objective=objective), Measurements(rtt_ms=rtt_ms), Speculator()
    view.extend([1, 2, 3], 0, 100)
    for _ in range(40):
        measurements.observe_forward(4, 10.0, 2)
        auto.adapt(view, measurements)
    return auto


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


SPARE_MS = SPARE_SHARE * 10.0


def test_nodes_wait_for_a_further_run_that_reaches_the_same_forward() -> None:
    assert holding(slack_ms=20.0, probability=0.5) == 20.0 - SPARE_MS
    assert holding(slack_ms=5.0, probability=0.5) == 0.0


def test_with_nothing_more_to_draft_they_wait_for_a_verdict_as_long_as_they_are_in_time() -> None:
    assert holding(slack_ms=5.0, probability=0.5, draft_full=True) == 5.0 - SPARE_MS
    assert holding(slack_ms=SPARE_MS, probability=0.5, draft_full=True) == 0.0


def test_what_is_held_back_misses_no_forward_although_these_differ_in_length() -> None:
    class Hasty(Auto):
        def hold_ms(self, view: Speculator, nodes: Sequence[int]) -> float:
            return 0.0

    timing = Timing(
        lambda rows: 1.5, lambda rows: 28.0 + 0.28 * rows, up_ms=lambda: 20.0, down_ms=lambda: 20.0
    )
    held, hasty = played(Auto(), 0.75, timing), played(Hasty(), 0.75, timing)
    assert held.milliseconds <= 1.01 * hasty.milliseconds


def test_a_thin_node_that_may_come_too_late_waits_for_the_verdict_if_one_is_due() -> None:
    assert holding(slack_ms=0.0, probability=0.01) == math.inf
    assert holding(slack_ms=0.0, probability=0.5) == 0.0
    assert holding(slack_ms=0.0, probability=0.01, sent=False) == 0.0


def test_energy_sends_nothing_less_likely_than_it_drafts() -> None:
    auto = settled(15.0, "energy")
    assert auto.send_floor == auto.floor


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_asks_for_no_hints(objective: str) -> None:
    assert played(Auto(objective=objective), timing=far(2.0)).counts.hints_sent == 0


def far(one_way_ms: float, server_draft_ms: float | None = None) -> Timing:
    drafts = None if server_draft_ms is None else (lambda rows: server_draft_ms)
    return Timing(up_ms=lambda: one_way_ms, down_ms=lambda: one_way_ms, server_draft_ms=drafts)


def test_on_a_long_way_the_servers_draft_is_used_where_that_is_faster() -> None:
    auto = Auto()
    outcome, alone = played(auto, timing=far(80.0, 1.0)), played(Auto(), timing=far(80.0))
    assert outcome.text == alone.text
    assert outcome.milliseconds < 0.8 * alone.milliseconds
    assert auto.options.server_draft == "lent" and auto.reasons["drafter"].startswith("the server drafts")


def test_a_slow_draft_of_the_servers_is_given_back() -> None:
    auto = Auto()
    played(auto, timing=far(5.0, 30.0))
    assert auto.options.server_draft == "off" and auto.reasons["drafter"].startswith("this device drafts")


def test_a_session_that_saves_forwards_takes_no_server_time() -> None:
    auto = Auto(objective="cost")
    played(auto, timing=far(80.0, 1.0))
    assert auto.options.server_draft == "off"


OWN, SERVERS = False, True


@pytest.mark.parametrize(
    ("earlier", "lent"),
    [
        pytest.param([(OWN, 20.0), (SERVERS, 10.0)] * 10, True, id="the server's was faster"),
        pytest.param([(OWN, 20.0), (SERVERS, 30.0)] * 10, False, id="its own was faster"),
        pytest.param([(OWN, 20.0)] * 10 + [(SERVERS, 10.0)] * 600, False, id="its own was slower long ago"),
        pytest.param(
            [(SERVERS, 30.0)] * 10 + [(OWN, 20.0)] * 600, True, id="the server's was slower long ago"
        ),
        pytest.param([(OWN, 20.0)] * 10 + [(SERVERS, 40.0)] * 3, True, id="a trial was cut short"),
    ],
)
def test_a_next_session_begins_with_the_drafter_that_was_faster_or_has_to_be_tried(
    earlier: list[tuple[bool, float]], lent: bool
) -> None:
    """earlier: of an earlier session's forwards, whose draft it was, and milliseconds a token."""
    measurements = Measurements(rtt_ms=40.0, server_drafts=True)
    for server_draft, token_ms in earlier:
        measurements.observe_forward(0, 28.0, tokens=1)
        measurements.observe_tokens(1, token_ms, server_draft)
    auto = Auto()
    auto.adapt(Speculator(), measurements)
    assert (auto.options.server_draft == "lent") is lent


def on_a_link(auto: Auto, rtt_ms: float, forwards: int, since: Measurements | None = None) -> Measurements:
    """Plain forwards of 28 ms at that round trip."""
    measurements = since or Measurements()
    measurements.rtt_ms = rtt_ms
    for _ in range(forwards):
        measurements.observe_forward(0, 28.0, tokens=1)
        auto.adapt(Speculator(), measurements)
    return measurements


def test_on_a_link_that_is_full_it_is_as_cloud_and_says_so() -> None:
    auto = Auto()
    measurements = on_a_link(auto, 40.0, 20)
    assert auto.depth and "link" not in auto.reasons
    for rtt_ms in (390.0, 395.0):
        on_a_link(auto, rtt_ms, 5, measurements)
        assert auto.depth, "a single hiccup is no reason"
    on_a_link(auto, 400.0, 1, measurements)
    assert auto.depth == 0 and not auto.options.max_wait_ms
    assert auto.reasons["link"].startswith("the link is full: a round trip took 40 ms and takes 400 ms now")
    on_a_link(auto, 50.0, REST_FORWARDS + 8, measurements)
    assert auto.depth and "link" not in auto.reasons


def test_a_link_that_was_always_slow_is_not_full() -> None:
    auto = Auto()
    on_a_link(auto, 900.0, 20)
    assert auto.depth and "link" not in auto.reasons


@pytest.mark.parametrize(("row_price", "sends"), [(0.0, 0.005), (0.2, 0.005), (0.7, 0.7**5)])
def test_where_rows_are_dear_thin_nodes_are_neither_drafted_nor_sent(row_price: float, sends: float) -> None:
    auto, measurements = Auto(), Measurements(rtt_ms=28.0)
    for _ in range(60):
        measurements.observe_forward(3, 28.0, 2, row_price)
    auto.adapt(Speculator(), measurements)
    assert auto.send_floor == pytest.approx(sends, rel=0.01)
    assert auto.floor == auto.send_floor


def test_short_forwards_carry_no_thin_nodes() -> None:
    auto, measurements = Auto(), Measurements(rtt_ms=1.0)
    for _ in range(10):
        measurements.observe_forward(3, 3.0, 2)
    auto.adapt(Speculator(), measurements)
    assert auto.send_floor == pytest.approx(2 * 0.03 / 3.03)
