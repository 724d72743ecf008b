"""How often `auto` decides wrongly in the first 64 tokens of a cold session: simulated, under one time in a hundred.
Which drafter is the faster one takes longer to learn: both are tried in turns until that is certain, or for 24 forwards
each. Under one in a hundred then keeps the slower one.

Each case is one decision, in a situation where its right answer is known: many draws, all from fixed seeds.
"""

import random
from collections.abc import Callable

import pytest

from edgespec.core.calibration_ratios import CalibrationRatio
from edgespec.core.measurements import Measurements
from edgespec.drafting.auto import DECIDE_EVERY, Auto
from edgespec.drafting.drafter_choice import DrafterChoice
from edgespec.drafting.speculator import Speculator
from edgespec.sim.scripted_model import DRAFT_PROBABILITIES, CalibratedModel
from edgespec.sim.simulation import Timing, simulate

TOKENS, MOST = 64, 0.01
FORWARD_MS = 28.0


def often(wrong: Callable[[random.Random], bool], draws: int = 400) -> float:
    return sum(wrong(random.Random(seed)) for seed in range(draws)) / draws


def observed(
    auto: Auto, rng: random.Random, forward_ms: Callable[[], float], rtt_ms: Callable[[], float]
) -> None:
    """A text of 64 tokens, one to four a forward. The draft is right in six of ten."""
    measurements, view = Measurements(), Speculator()
    view.extend([1, 2, 3], 0, 200)
    while measurements.committed < TOKENS:
        tokens = rng.choice((1, 1, 2, 2, 3, 4))
        measurements.observe_link(rtt_ms(), 0.0, False)
        measurements.draft_ms.observe(rng.randint(1, 4), rng.uniform(5.0, 9.0))
        measurements.observe_forward(rng.randint(3, 9), forward_ms(), tokens)
        for _ in range(tokens):
            first = rng.choice(DRAFT_PROBABILITIES)[0]
            measurements.calibration_ratios.best.observe(first, rng.random() < first)
        auto.adapt(view, measurements)


def noisy(rng: random.Random, milliseconds: float) -> float:
    """As on a machine with other work: a little more, and now and then much more."""
    return milliseconds * (1 + rng.expovariate(30.0)) + (
        rng.expovariate(1 / 20.0) if rng.random() < 0.03 else 0.0
    )


def test_a_draft_that_is_right_one_time_in_three_does_not_rest() -> None:
    def rests(rng: random.Random) -> bool:
        best, resting = CalibrationRatio(), False
        for number in range(TOKENS):
            best.observe(0.5, rng.random() < 0.33)
            if number % DECIDE_EVERY == 0:
                measurements, auto = Measurements(forwards=number), Auto()
                measurements.calibration_ratios.best = best
                auto._choose_depth(measurements)
                resting = resting or auto.depth == 0
        return resting

    assert often(rests) < MOST


def test_a_link_with_hiccups_does_not_count_as_full() -> None:
    """One time in twenty the round trip is sixteen times the usual one; the session smooths it as TCP does."""

    def congested(rng: random.Random) -> bool:
        smoothed_ms = 40.0

        def rtt_ms() -> float:
            nonlocal smoothed_ms
            sample_ms = rng.gauss(40.0, 5.0) * (16.0 if rng.random() < 0.05 else 1.0)
            smoothed_ms += (sample_ms - smoothed_ms) / 8
            return smoothed_ms

        auto = Auto()
        observed(auto, rng, lambda: FORWARD_MS, rtt_ms)
        return "link" in auto.reasons or auto.depth == 0

    assert often(congested) < MOST


def test_forwards_wait_for_drafts_only_where_these_come_soon() -> None:
    """A third of a forward is too long to wait for an answer."""

    def waits(rng: random.Random) -> bool:
        auto = Auto()
        observed(auto, rng, lambda: noisy(rng, 100.0), lambda: rng.uniform(28.0, 40.0))
        return auto.options.max_wait_ms > 0

    assert often(waits) < MOST


@pytest.mark.parametrize(("share", "taken"), [(0.5, 1), (0.05, 3)])
def test_rows_of_a_draft_run_are_taken_where_they_are_worth_their_time(share: float, taken: int) -> None:
    """A further row costs this share of a run, and runs vary by a fifth."""

    def otherwise(rng: random.Random) -> bool:
        auto, measurements = Auto(), Measurements()
        for _ in range(DECIDE_EVERY * 4):
            rows = rng.choice((1, 1, 2, 3))
            measurements.draft_ms.observe(rows, 6.0 * (1 + share * (rows - 1)) * rng.uniform(0.8, 1.2))
        auto._choose_rows(measurements)
        return auto._worthwhile([0.9, 0.15, 0.14]) != taken

    assert often(otherwise) < MOST


@pytest.mark.parametrize("own_is_faster", [True, False])
def test_the_drafter_that_is_a_third_slower_is_not_kept(own_is_faster: bool) -> None:
    """1000 draws: what is asked for is rare."""

    def slower(rng: random.Random) -> bool:
        measurements, choice = Measurements(rtt_ms=10.0, server_drafts=True), DrafterChoice()
        quick, slow = (1, 2, 2, 3, 4), (1, 1, 1, 2, 4)
        for _ in range(2 * TOKENS):
            tokens = rng.choice(quick if choice.server_drafts != own_is_faster else slow)
            measurements.observe_forward(4, FORWARD_MS, tokens)
            measurements.observe_tokens(tokens, noisy(rng, FORWARD_MS), choice.server_drafts)
            choice.update(measurements)
        return choice.server_drafts == own_is_faster

    assert often(slower, 1000) < MOST


def test_the_whole_of_it_on_the_simulated_clock() -> None:
    """Nothing rests and no link is full, whatever the seed."""
    for seed in range(16):
        auto, one_way_ms = Auto(), (0.0, 10.0, 20.0, 80.0)[seed % 4]
        timing = Timing(up_ms=lambda: one_way_ms, down_ms=lambda: one_way_ms)  # noqa: B023
        simulate(CalibratedModel(0.62, seed=seed), auto, [1, 2, 3], max_new_tokens=TOKENS, timing=timing)
        assert auto.depth and "link" not in auto.reasons
