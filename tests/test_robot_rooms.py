"""Rooms, the camera's pictures and trials."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from robot_rooms import room_with

from edgespec.robot import camera
from edgespec.robot.camera import look
from edgespec.robot.language import answer
from edgespec.robot.mission import MOST_LOOKS
from edgespec.robot.pilot import Pilot
from edgespec.robot.rooms import COLOURS, KINDS, Pose, make_room
from edgespec.robot.trial import make_trials


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bearing", [-35.0, 0.0, 20.0])
def test_a_thing_is_seen_where_it_is(kind: str, bearing: float) -> None:
    x, y = 2.5 * math.cos(math.radians(bearing)), 2.5 * math.sin(math.radians(bearing))
    view = look(room_with(("blue", kind, x, y)), Pose())
    (sighting,) = view.sightings
    assert (sighting.name, sighting.bearing) == (f"blue {kind}", pytest.approx(bearing))
    assert sighting.distance == pytest.approx(2.5)
    columns = np.nonzero(view.shown == 0)[1]
    tangent = ((columns.min() + columns.max() + 1) / camera.WIDTH - 1) * math.tan(camera.FIELD_OF_VIEW / 2)
    assert -math.degrees(math.atan(tangent)) == pytest.approx(bearing, abs=4)
    red, green, blue = view.picture[view.shown == 0].astype(int).T
    shade = blue - np.maximum(red, green)
    assert np.median(shade) > 20


def test_the_nearer_thing_hides_the_farther_one() -> None:
    view = look(room_with(("red", "table", 3.0, 0.0), ("blue", "box", 1.5, 0.0)), Pose())
    alone = look(room_with(("red", "table", 3.0, 0.0)), Pose())
    assert (view.shown == 0).sum() < (alone.shown == 0).sum()
    assert (view.shown == 1).sum() > 200


def test_what_is_behind_the_robot_is_not_in_view() -> None:
    room = room_with(("red", "box", 2.0, 0.0))
    assert look(room, Pose()).sightings
    assert not look(room, Pose(yaw=math.pi)).sightings
    assert (look(room, Pose(yaw=math.pi)).shown == -1).all()


def test_windows_cut_no_thing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        room, pose = make_room(rng, 8), Pose(*rng.uniform(-0.4, 0.4, 2), float(rng.uniform(-3, 3)))
        quick = look(room, pose)
        with monkeypatch.context() as patch:
            patch.setattr(camera, "_window", lambda *_: (slice(0, camera.HEIGHT), slice(0, camera.WIDTH)))
            whole = look(room, pose)
        assert (quick.shown == whole.shown).all() and (quick.picture == whole.picture).all()


def test_pictures_are_made_again_from_the_same_seed() -> None:
    first, again = (make_trials(3, 2)[1] for _ in range(2))
    assert (first.picture() == again.picture()).all() and first.request == again.request
    assert (first.picture() != make_trials(3, 1)[0].picture()).any()


def test_a_picture_is_a_small_baseline_jpeg() -> None:
    file = camera.jpeg(make_trials(1, 1)[0].picture())
    assert file[:2] == b"\xff\xd8" and b"\xff\xc0" in file and len(file) < 20_000


def test_every_thing_of_a_room_has_a_name_of_its_own_and_lies_within() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        room = make_room(rng, 7)
        names = [thing.name for thing in room.things]
        assert len(set(names)) == len(names) >= 3
        for thing in room.things:
            assert thing.colour in COLOURS and thing.kind in KINDS
            assert abs(thing.x) < room.half_x - 0.5 and abs(thing.y) < room.half_y - 0.5


def test_who_answers_rightly_reaches_nearly_every_goal() -> None:
    trials = make_trials(7, 60)
    for trial in trials:
        for _ in range(MOST_LOOKS):
            said = answer(look(trial.room, trial.body.pose).sightings, trial.goal.name)
            if not trial.carry_out(Pilot(), said):
                break
    assert sum(trial.reached for trial in trials) >= 57


def test_a_stop_far_from_the_goal_is_no_success() -> None:
    trial = make_trials(7, 1)[0]
    trial.carry_out(Pilot(), "stop")
    assert trial.said_stop and not trial.reached
    assert trial.body.pose == replace(trial.body.pose, x=0.0, y=0.0)


def test_the_answer_names_what_is_in_view_from_left_to_right() -> None:
    view = look(room_with(("red", "chair", 2.0, 1.0), ("white", "cone", 2.0, -1.0)), Pose())
    assert re.match(
        r"I see red chair left 25 2\.2 m, white cone right 25 2\.2 m\. turn",
        answer(view.sightings, "white cone"),
    )
