"""Only committed commands move the robot; everything else slows or stops it."""

import math

import pytest
from robot_rooms import room_with

from edgespec.robot.body import Body
from edgespec.robot.commands import Forward, Limits, Turn
from edgespec.robot.pilot import STILL, Pilot, State, Velocity
from edgespec.robot.rooms import Pose

PERIOD_S = 0.05


def driven(pilot: Pilot, body: Body, now_s: float) -> float:
    """Let the pilot drive until it is idle; returns the time then."""
    while not pilot.idle:
        body.move(pilot.velocity(now_s, PERIOD_S), PERIOD_S)
        now_s += PERIOD_S
    return now_s


def test_commands_are_carried_out_exactly_at_the_limits_speed() -> None:
    pilot, body = Pilot(Limits(metres_per_s=0.5, degrees_per_s=45)), Body(room_with())
    assert pilot.committed("turn left 90; forward 1.0; ", 0.0) == [Turn(90.0), Forward(1.0)]
    pilot.committed("look", 0.0)
    pilot.finished(0.0)
    assert driven(pilot, body, 0.0) == pytest.approx(90 / 45 + 1.0 / 0.5, abs=3 * PERIOD_S)
    assert pilot.wants_to_look and not pilot.reached
    assert (body.pose.x, body.pose.y) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0))


def test_the_watchdog_stops_the_robot_within_one_period_and_new_text_frees_it() -> None:
    pilot = Pilot(watchdog_s=0.5)
    pilot.committed("forward 2.0;", 0.0)
    assert pilot.velocity(0.5, PERIOD_S) != STILL
    assert pilot.velocity(0.5 + PERIOD_S, PERIOD_S) == STILL
    assert pilot.state(0.55) is State.STOPPED
    pilot.committed(" look", 5.0)
    assert pilot.velocity(5.0, PERIOD_S) == Velocity(pytest.approx(0.5))


def test_the_watchdog_rests_when_the_answer_is_whole() -> None:
    pilot = Pilot(watchdog_s=0.5)
    pilot.committed("forward 2.0; look", 0.0)
    pilot.finished(0.1)
    assert pilot.velocity(60.0, PERIOD_S) != STILL


def test_provisional_text_slows_the_robot_and_never_moves_it() -> None:
    pilot = Pilot(Limits(slow_share=0.3))
    pilot.provisional("turn left 90; forward 2.0; look")
    assert pilot.velocity(0.0, PERIOD_S) == STILL
    pilot.committed("forward 2.0;", 0.0)
    pilot.provisional(" loo")
    assert pilot.state(0.0) is State.SLOW
    assert pilot.velocity(0.0, PERIOD_S).metres_per_s == pytest.approx(0.3 * 0.5)


def test_a_provisional_stop_halts_the_robot_until_text_is_committed() -> None:
    pilot = Pilot()
    pilot.committed("forward 2.0;", 0.0)
    pilot.provisional(" st")
    assert pilot.state(0.0) is State.SLOW
    pilot.provisional("op")
    assert pilot.velocity(0.0, PERIOD_S) == STILL
    pilot.committed(" look", 0.1)
    assert pilot.velocity(0.1, PERIOD_S) != STILL


def test_a_revision_stops_the_robot_until_text_is_committed() -> None:
    pilot = Pilot()
    pilot.committed("forward 2.0;", 0.0)
    pilot.revised()
    assert pilot.velocity(0.1, PERIOD_S) == STILL
    pilot.committed(" look", 0.2)
    assert pilot.velocity(0.2, PERIOD_S) != STILL


def test_a_refused_command_stops_the_robot_for_good() -> None:
    pilot = Pilot()
    pilot.committed("forward 1.0; forward 99; look", 0.0)
    pilot.finished(0.0)
    assert pilot.velocity(0.0, PERIOD_S) == STILL
    assert pilot.idle and pilot.refused is not None and "99" in pilot.refused.text


def test_cancel_drops_everything() -> None:
    pilot = Pilot()
    pilot.committed("forward 2.0;", 0.0)
    pilot.cancel()
    pilot.committed(" turn left 20;", 0.1)
    assert pilot.idle and pilot.velocity(0.1, PERIOD_S) == STILL


def test_a_body_stands_before_what_is_in_its_way() -> None:
    body = Body(room_with(("red", "box", 1.0, 0.0)))
    for _ in range(100):
        body.move(Velocity(0.5), PERIOD_S)
    assert body.bumps == {0} and body.pose.x == pytest.approx(1.0 - 0.36 - 0.25)


def test_a_body_stays_in_the_room() -> None:
    body = Body(room_with(), Pose(0, 0, math.pi / 3))
    for _ in range(1000):
        body.move(Velocity(0.5), PERIOD_S)
    assert abs(body.pose.y) < 5.0 and abs(body.pose.x) < 5.0


def test_where_a_body_stands_does_not_depend_on_the_periods() -> None:
    def stands(period_s: float) -> Pose:
        body, pilot = Body(room_with(("red", "table", 1.2, 0.1))), Pilot()
        pilot.committed("turn right 5; forward 2.0; turn left 40; forward 0.5; look", 0.0)
        pilot.finished(0.0)
        while not pilot.idle:
            body.move(pilot.velocity(0.0, period_s), period_s)
        assert body.bumps == {0}
        return body.pose

    first, *others = [stands(period_s) for period_s in (0.01, 0.03, 0.2)]
    for other in others:
        assert (other.x, other.y) == (pytest.approx(first.x, abs=1e-9), pytest.approx(first.y, abs=1e-9))
