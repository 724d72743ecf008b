"""A walking Go2 goes where it is told, and notes what it runs into; without its files it is refused in a sentence."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
from robot_rooms import room_with

from edgespec.core.errors import EdgespecError
from edgespec.robot import go2_scene
from edgespec.robot.body import WALL
from edgespec.robot.pilot import STILL, Pilot
from edgespec.robot.rooms import Pose

needs_go2 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mujoco", go2_scene.PACKAGE)),
    reason=f"MuJoCo or the Go2's model is not installed: {go2_scene.INSTALL}",
)


def carry_out(body: Any, text: str) -> None:
    """Then it stands for half a second."""
    pilot = Pilot()
    pilot.begin(0.0)
    pilot.committed(text, 0.0)
    pilot.finished(0.0)
    while not pilot.idle:
        body.move(pilot.velocity(0.0, 0.05), 0.05)
    for _ in range(10):
        body.move(STILL, 0.05)


@needs_go2
@pytest.mark.parametrize("faster", [1.0, 5.0])
def test_it_walks_as_it_is_told_and_pictures_show_what_is_ahead(faster: float) -> None:
    from edgespec.robot.go2 import Go2Body

    body = Go2Body(room_with(("red", "box", 3.0, 0.0)), Pose(yaw=-0.5), faster=faster)
    carry_out(Slowed(body), "turn left 28.6; forward 1.0; look")
    assert math.hypot(body.pose.x - 1.0, body.pose.y) < 0.2 and abs(body.pose.yaw) < math.radians(8)
    assert not body.bumps
    frames = body.frames(42, 84, most=4)
    assert len(frames) <= 4 and frames[0].shape == (42, 168, 3)
    red = frames[-1][:, :84].astype(int)
    assert np.count_nonzero((red[..., 0] > 2 * red[..., 1]) & (red[..., 0] > 60)) > 20


class Slowed:
    """A body on whose clock the pilot's speeds and periods are those of the robot itself."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def move(self, velocity: Any, period_s: float) -> None:
        faster = self._body.faster
        scaled = type(velocity)(velocity.metres_per_s * faster, velocity.radians_per_s * faster)
        self._body.move(scaled, period_s / faster)


@needs_go2
def test_it_notes_what_it_runs_into() -> None:
    from edgespec.robot.go2 import Go2Body

    body = Go2Body(room_with(("red", "box", 1.3, 0.0)), Pose())
    carry_out(body, "forward 2.5; look")
    assert 0 in body.bumps and WALL not in body.bumps
    assert body.pose.x < 1.3


def test_without_its_files_it_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EdgespecError, match=r"needs MuJoCo and the robot's model: pip install 'edgespec\[go2\]'"
    ):
        go2_scene.go2_files()
