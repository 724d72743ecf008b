"""Paces on a simulated clock: steps last as long as they should, and overruns are counted."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from edgespec.core import pacing
from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing, ForwardPacing


class Clock:
    """Seconds that pass by sleeping (a little longer than asked for, as real ones do), working, and
    looking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.slept_s = 0.0
        monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=self.look, sleep=self.sleep))

    def look(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + 60e-6
        self.slept_s += seconds

    def work(self, ms: float) -> None:
        self.now_s += ms / 1e3

    @property
    def elapsed_ms(self) -> float:
        return (self.now_s - 100.0) * 1e3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("pace", "rows", "length_ms"),
    [
        (ForwardPacing(20.0), 1, 20.0),
        (ForwardPacing(20.0), 32, 20.0),
        (ForwardPacing(20.0), 48, 30.0),
        (ForwardPacing(20.0), 256, 160.0),
        (DraftPacing(15.0), 0, 15.0),
        (DraftPacing(15.0), 1, 15.0),
        (DraftPacing(15.0), 2, 16.5),
        (DraftPacing(15.0), 5, 21.0),
    ],
)
def test_a_step_lasts_its_pace_and_further_rows_cost_their_share(
    clock: Clock, pace: ForwardPacing | DraftPacing, rows: int, length_ms: float
) -> None:
    pace.begin(rows)
    clock.work(3)
    pace.end()
    assert length_ms <= clock.elapsed_ms == pytest.approx(length_ms, abs=0.01)
    assert (pace.steps, pace.overruns) == (1, 0)


def test_an_exit_reports_no_sooner_than_its_share_of_the_pace(clock: Clock) -> None:
    pace = ForwardPacing(20.0)
    pace.begin(8)
    for layer in (3, 6, 9):
        clock.work(1)
        pace.reach(layer / 12)
        assert clock.elapsed_ms == pytest.approx(20 * layer / 12, abs=0.01)
    pace.end()
    assert clock.elapsed_ms == pytest.approx(20, abs=0.01)


def test_reaching_a_share_that_has_passed_returns_at_once(clock: Clock) -> None:
    pace = ForwardPacing(20.0)
    pace.begin(1)
    clock.work(15)
    pace.reach(0.5)
    assert clock.slept_s == 0


@pytest.mark.parametrize(("work_ms", "overran"), [(19.0, 0), (20.1, 0), (20.3, 1), (40.0, 1)])
def test_a_step_overran_when_its_work_ended_more_than_a_hundredth_late(
    clock: Clock, work_ms: float, overran: int
) -> None:
    pace = ForwardPacing(20.0)
    pace.begin(1)
    clock.work(work_ms)
    pace.end()
    assert (pace.steps, pace.overruns) == (1, overran)


def test_the_real_clock_is_never_early() -> None:
    pace = ForwardPacing(2.0)
    start_s = time.monotonic()
    pace.begin(1)
    pace.end()
    assert time.monotonic() - start_s >= 2e-3


@pytest.mark.parametrize("pace_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_must_be_a_number_above_zero(pace_ms: float) -> None:
    for kind in (ForwardPacing, DraftPacing):
        with pytest.raises(EdgespecError, match="above 0"):
            kind(pace_ms)
