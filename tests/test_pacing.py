"""Paces on a simulated clock: steps last as long as they should, and overruns are counted."""

from __future__ import annotations

import pytest

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing, ForwardPacing


class Clock:
    """Seconds that pass by sleeping (a little longer than asked for, as real ones do), working, and
    looking."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + 60e-6
        self.slept_s += seconds

    def work(self, ms: float) -> None:
        self.now_s += ms / 1e3


@pytest.fixture
def clock() -> Clock:
    return Clock()


def paced(clock: Clock, forward_ms: float = 20.0, rows: int = 32) -> ForwardPacing:
    return ForwardPacing(forward_ms, rows, clock=clock, sleep=clock.sleep)


def elapsed_ms(clock: Clock, since_s: float = 100.0) -> float:
    return (clock.now_s - since_s) * 1e3


@pytest.mark.parametrize(("rows", "paces"), [(1, 1.0), (32, 1.0), (48, 1.5), (256, 8.0)])
def test_a_forward_lasts_its_pace_and_rows_beyond_the_limit_cost_in_proportion(
    clock: Clock, rows: int, paces: float
) -> None:
    pace = paced(clock)
    pace.begin(rows)
    clock.work(3)
    pace.end()
    assert elapsed_ms(clock) == pytest.approx(20 * paces, abs=0.01)
    assert elapsed_ms(clock) >= 20 * paces
    assert (pace.steps, pace.overruns) == (1, 0)


def test_an_exit_reports_no_sooner_than_its_share_of_the_pace(clock: Clock) -> None:
    pace = paced(clock)
    pace.begin(8)
    for layer in (3, 6, 9):
        clock.work(1)
        pace.reach(layer / 12)
        assert elapsed_ms(clock) == pytest.approx(20 * layer / 12, abs=0.01)
    pace.end()
    assert elapsed_ms(clock) == pytest.approx(20, abs=0.01)


def test_reaching_a_share_that_has_passed_returns_at_once(clock: Clock) -> None:
    pace = paced(clock)
    pace.begin(1)
    clock.work(15)
    pace.reach(0.5)
    assert clock.slept_s == 0


@pytest.mark.parametrize(("work_ms", "overran"), [(19.0, 0), (20.1, 0), (20.3, 1), (40.0, 1)])
def test_a_step_overran_when_its_work_ended_more_than_a_hundredth_late(
    clock: Clock, work_ms: float, overran: int
) -> None:
    pace = paced(clock)
    pace.begin(1)
    clock.work(work_ms)
    pace.end()
    assert (pace.steps, pace.overruns) == (1, overran)


def test_more_than_two_overruns_in_a_hundred_steps_are_void(clock: Clock) -> None:
    pace = paced(clock)
    assert not pace.void
    for step in range(100):
        pace.begin(1)
        clock.work(30 if step < 2 else 5)
        pace.end()
    assert not pace.void
    pace.begin(1)
    clock.work(30)
    pace.end()
    assert pace.void


@pytest.mark.parametrize(("rows", "runs"), [(0, 1.0), (1, 1.0), (2, 1.1), (5, 1.4)])
def test_a_draft_run_costs_a_tenth_more_for_each_further_row(clock: Clock, rows: int, runs: float) -> None:
    pace = DraftPacing(15.0, clock=clock, sleep=clock.sleep)
    pace.begin()
    clock.work(2)
    pace.hold(rows)
    assert elapsed_ms(clock) == pytest.approx(15 * runs, abs=0.01)
    assert (pace.steps, pace.overruns) == (1, 0)


def test_the_real_clock_is_never_early() -> None:
    import time

    pace = ForwardPacing(2.0)
    start_s = time.monotonic()
    pace.begin(1)
    pace.end()
    assert time.monotonic() - start_s >= 2e-3


@pytest.mark.parametrize("pace_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_must_be_a_number_above_zero(pace_ms: float) -> None:
    with pytest.raises(EdgespecError, match="above 0"):
        ForwardPacing(pace_ms)
    with pytest.raises(EdgespecError, match="above 0"):
        DraftPacing(pace_ms)
