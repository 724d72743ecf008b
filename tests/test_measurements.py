"""What a session measures: costs, how often predictions come true, and when the server's forwards begin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.core.calibration_ratios import CalibrationRatio
from edgespec.core.costs import LinearCost
from edgespec.core.forward_cost import ForwardCost
from edgespec.core.measurements import CLOCK_MS, ForwardClock, Measurements

FORWARD_MS = 28.0
RTT_MS = 40.0
EDGE_AHEAD_MS = 5000.0
"""What the edge's clock shows when the server's shows 0."""


def clock_after(forwards: int, late_ms: list[float] | None = None, first_ms: float = 100.0) -> ForwardClock:
    """A server that never waits: verdict k leaves at first_ms + k * FORWARD_MS and is looked at `late_ms` late."""
    clock = ForwardClock()
    for k in range(forwards):
        ended_ms = first_ms + k * FORWARD_MS
        late = late_ms[k % len(late_ms)] if late_ms else 0.0
        clock.verdict(EDGE_AHEAD_MS + ended_ms + RTT_MS / 2 + late, ended_ms % CLOCK_MS, FORWARD_MS)
    return clock


def time_left_ms(now_ms: float, first_ms: float = 100.0) -> float:
    """Until what is sent now would be too late for the forward that it would be in time for: the truth."""
    arrives_ms = now_ms - EDGE_AHEAD_MS + RTT_MS / 2
    return FORWARD_MS - (arrives_ms - first_ms) % FORWARD_MS


def test_nothing_may_wait_before_the_first_verdict() -> None:
    assert ForwardClock().slack_ms(1000.0, RTT_MS) == 0.0


@given(
    after_ms=st.floats(0, 200),
    late_ms=st.lists(st.floats(0, 10), min_size=1, max_size=7).map(lambda late: [0.0, *late]),
)
def test_what_waits_as_long_as_it_may_is_in_time_although_verdicts_were_looked_at_late(
    after_ms: float, late_ms: list[float]
) -> None:
    now_ms = EDGE_AHEAD_MS + 100 + 39 * FORWARD_MS + RTT_MS / 2 + after_ms
    slack_ms = clock_after(40, late_ms).slack_ms(now_ms, RTT_MS)
    assert slack_ms <= max(0.0, time_left_ms(now_ms) - 0.5)


def test_with_verdicts_looked_at_in_time_most_of_a_forward_may_be_waited_for() -> None:
    clock = clock_after(40)
    began_ms = EDGE_AHEAD_MS + 100 + 60 * FORWARD_MS - RTT_MS / 2
    assert clock.slack_ms(began_ms + 0.1, RTT_MS) == pytest.approx(FORWARD_MS * 0.95 - 0.6)
    assert clock.slack_ms(began_ms + 20.0, RTT_MS) == pytest.approx(FORWARD_MS * 0.95 - 20.5)
    assert clock.slack_ms(began_ms + 27.0, RTT_MS) == 0.0
    assert clock.slack_ms(began_ms + 20.0, RTT_MS, jitter_ms=3.0) == pytest.approx(FORWARD_MS * 0.95 - 26.5)


def test_the_servers_clock_may_wrap() -> None:
    first_ms = CLOCK_MS - 10 * FORWARD_MS
    clock = clock_after(40, first_ms=first_ms)
    now_ms = EDGE_AHEAD_MS + first_ms + 45 * FORWARD_MS - RTT_MS / 2 + 3.0
    assert clock.slack_ms(now_ms, RTT_MS) == pytest.approx(FORWARD_MS * 0.95 - 3.5)


def test_nothing_waits_for_a_server_whose_forwards_come_irregularly() -> None:
    clock = ForwardClock()
    for ended_ms in (100, 128, 200, 228, 310, 338, 420):
        clock.verdict(EDGE_AHEAD_MS + ended_ms + RTT_MS / 2, ended_ms, FORWARD_MS)
    assert all(clock.slack_ms(EDGE_AHEAD_MS + 430 + after_ms, RTT_MS) == 0.0 for after_ms in range(30))


def test_a_cost_is_the_line_through_what_was_seen() -> None:
    cost = LinearCost()
    assert not cost.known and cost(3) == 0.0
    for rows in (1, 2, 4, 8):
        cost.observe(rows, 10.0 + 0.5 * rows)
    assert cost(6) == pytest.approx(13.0) and cost.per_row_ms == pytest.approx(0.5)


@pytest.mark.parametrize("token_ms", [0.0, 3.5e-3])
def test_a_forwards_cost_is_learnt_by_rows_and_by_tokens_attended_to(token_ms: float) -> None:
    """Texts grow, sessions come and go, and every other measurement is a tenth too long."""
    cost = ForwardCost()
    assert cost(3, 100) == cost(3) == 0.0
    for number in range(400):
        rows = 1 + number % 5
        attended = sum((number + 200 * row) % 900 for row in range(rows))
        cost.observe(rows, attended, (3.5 + 0.3 * rows + token_ms * attended) * (1.0 + 0.1 * (number % 2)))
    assert cost(1, 16) == pytest.approx(1.05 * (3.8 + token_ms * 16), rel=0.07)
    assert cost(2, 2000) == pytest.approx(1.05 * (4.1 + token_ms * 2000), rel=0.07)
    assert cost(5) == pytest.approx(1.05 * (5.0 + token_ms * 5 * 450), rel=0.1), "of usual texts"


def test_without_long_texts_attention_is_taken_to_cost_nothing() -> None:
    """Few forwards, which a disturbance made unequal: nobody waits for a long text because of them."""
    cost = ForwardCost()
    for number in range(30):
        cost.observe(1, 20 + number, 5.0 + (3.0 if number > 25 else 0.0))
    assert cost(1, 1000) < 1.35 * cost(1, 20)


def test_what_proved_wrong_is_believed_again_at_first_but_not_for_long() -> None:
    measurements = Measurements()
    for _ in range(60):
        measurements.calibration_ratios.hints.observe(0.8, came_true=False)
        measurements.calibration_ratios.best.observe(0.8, came_true=False)
    assert measurements.calibration_ratios.hints.ratio < 0.1
    copy = measurements.handed_on()
    assert copy.calibration_ratios.hints.ratio > 2 * measurements.calibration_ratios.hints.ratio
    assert copy.calibration_ratios.best.ratio == measurements.calibration_ratios.best.ratio
    before = copy.calibration_ratios.hints.ratio
    for _ in range(5):
        copy.calibration_ratios.hints.observe(0.8, came_true=True)
    assert (
        copy.calibration_ratios.hints.ratio > before + 0.15
        and measurements.calibration_ratios.hints.ratio < 0.1
    )


def test_a_calibration_ratio_starts_at_1_and_falls_to_what_came_true() -> None:
    ratio = CalibrationRatio()
    assert ratio.corrected(0.8) == pytest.approx(0.8)
    for _ in range(300):
        ratio.observe(0.8, came_true=False)
    assert ratio.corrected(0.8) < 0.03
