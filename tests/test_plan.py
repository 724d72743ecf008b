"""`plan`: a simulated comparison that is fair to every mode and reproduces what theory says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgespec.errors import EdgespecError
from edgespec.oracle import CalibratedOracle
from edgespec.plan import Situation, compare, predict, sweep

PAPER_JETSON = Situation(rtt_ms=96, forward_ms=522, draft_ms=301 / 4)


def speeds(situation: Situation, *modes: str) -> dict[str, float]:
    return {one.mode: one.tokens_per_s for one in compare(situation, ["cloud", *modes], tokens=200)}


def test_streamed_cloud_decoding_costs_a_forward_a_token_at_any_round_trip() -> None:
    for rtt_ms in (0, 100):
        one = predict(Situation(rtt_ms=rtt_ms), "cloud", tokens=200)
        assert one.tokens_per_s == pytest.approx(1e3 / 28, rel=0.05) and one.forwards_per_token == 1


def test_the_oracle_accepts_as_often_as_it_is_told() -> None:
    oracle, text, right = CalibratedOracle(0.4), [1, 2, 3], 0
    for _ in range(3000):
        token = oracle.target(text)
        right += oracle.draft(text)[0][0] == token
        text.append(token)
    assert right / 3000 == pytest.approx(0.4, abs=0.03)


def test_the_oracles_chances_are_calibrated() -> None:
    oracle, text = CalibratedOracle(0.62), [1, 2, 3]
    foretold = right = 0.0
    for _ in range(3000):
        token = oracle.target(text)
        choices, chances = oracle.draft(text)
        foretold += sum(chances)
        right += token in choices
        text.append(token)
    assert right == pytest.approx(foretold, rel=0.03)


def test_at_the_papers_timings_each_scheme_beats_the_one_before() -> None:
    found = speeds(PAPER_JETSON, "sync", "preempt", "auto")
    assert found["cloud"] < found["sync"] < found["preempt"] < found["auto"]


def test_waiting_schemes_lose_to_cloud_on_a_long_link_and_auto_does_not() -> None:
    found = speeds(Situation(rtt_ms=80), "sync", "preempt", "auto")
    assert found["sync"] < found["preempt"] < found["cloud"] <= found["auto"] * 1.005


@pytest.mark.parametrize("rtt_ms", [0, 10, 40, 160])
@pytest.mark.parametrize("engines", [(28.0, 6.0), (10.0, 0.5), (104.0, 15.0)])
def test_auto_never_falls_below_cloud(rtt_ms: float, engines: tuple[float, float]) -> None:
    found = speeds(Situation(rtt_ms=rtt_ms, forward_ms=engines[0], draft_ms=engines[1], forward_row_share=0.02), "auto")
    assert found["auto"] >= 0.98 * found["cloud"]


def test_a_draft_that_is_always_wrong_costs_next_to_nothing() -> None:
    found = speeds(Situation(rtt_ms=20, acceptance=0.0, forward_row_share=0.02), "auto")
    assert found["auto"] >= 0.97 * found["cloud"]


def test_a_sweep_plays_each_value() -> None:
    found = sweep(Situation(), "rtt_ms", [0, 80], ["cloud", "sync"], tokens=60)
    assert list(found) == [0, 80]
    assert found[0][1].tokens_per_s > found[80][1].tokens_per_s


@pytest.mark.parametrize("change", [{"forward_ms": 0}, {"acceptance": 1.5}, {"rtt_ms": -1}, {"jitter_ms": 50}])
def test_a_situation_that_cannot_be_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(EdgespecError):
        replace(Situation(), **change)


def test_a_number_that_is_none_cannot_be_swept() -> None:
    with pytest.raises(EdgespecError, match="choose one of"):
        sweep(Situation(), "colour", [1], ["cloud"])
