"""How long messages are taken in before a forward: a share of it, and of several devices an equal part each."""

from __future__ import annotations

import pytest

from edgespec.server.intake import LEAST_S, MOST_S, SHARE, Intake


def batches_taken(intake: Intake, batch_s: float, devices: set[str]) -> int:
    taken = 1
    while intake.goes_on(batch_s, devices):
        taken += 1
    return taken


@pytest.mark.parametrize(("forward_s", "intake_s"), [(0.02, SHARE * 0.02), (1.0, MOST_S), (0.0, LEAST_S)])
def test_an_intake_takes_a_share_of_a_forward_within_bounds(forward_s: float, intake_s: float) -> None:
    taken = batches_taken(Intake(forward_s, 1), 1e-5, {"one"})
    assert taken == pytest.approx(intake_s / 1e-5, abs=1)
    assert batches_taken(Intake(forward_s, 2), 1e-5, {"one", "other"}) == pytest.approx(taken, abs=1)


def test_a_device_by_itself_takes_an_equal_part_where_others_write() -> None:
    alone = batches_taken(Intake(0.02, 1), 1e-5, {"one"})
    assert batches_taken(Intake(0.02, 4), 1e-5, {"one"}) == pytest.approx(alone / 4, abs=1)


def test_the_next_device_has_its_part_when_one_has_had_its_own() -> None:
    intake = Intake(0.02, 2)
    assert not intake.goes_on(SHARE * 0.01, {"one"})
    assert intake.goes_on(SHARE * 0.005, {"other"})


def test_one_batch_is_taken_in_however_long_it_takes() -> None:
    assert batches_taken(Intake(0.02, 1), 1.0, set()) == 1
