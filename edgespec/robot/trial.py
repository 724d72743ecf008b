"""Trials: a room, a thing to go to and a robot that begins in the middle. The same seed makes the same trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.robot.body import Body
from edgespec.robot.camera import look
from edgespec.robot.language import request
from edgespec.robot.pilot import Pilot
from edgespec.robot.rooms import Pose, Room, Thing, make_room

SUCCESS_M = 1.6
"""How near to the middle of its goal the robot must stop."""

PERIOD_S = 0.05
"""Of a simulated body's control."""


@dataclass
class Trial:
    """What is to be done in one room, and how it goes."""

    room: Room
    goal: Thing
    request: str
    body: Body
    noise_seed: int
    pictures: int = 0
    said_stop: bool = False

    @property
    def reached(self) -> bool:
        """Whether the robot stopped near its goal and ran into nothing else."""
        near = self.body.pose.distance_to(self.goal.x, self.goal.y) <= SUCCESS_M
        return self.said_stop and near and not self.bumped

    @property
    def bumped(self) -> bool:
        """Whether anything but the goal stood in the robot's way."""
        return bool(self.body.bumps - {self.room.things.index(self.goal)})

    def picture(self) -> NDArray[np.uint8]:
        """What the camera sees now. The same place gives the same picture, whatever time it took to get there."""
        self.pictures += 1
        pose = self.body.pose
        rounded = Pose(round(pose.x, 5), round(pose.y, 5), round(pose.yaw, 5))
        return look(self.room, rounded, np.random.default_rng([self.noise_seed, self.pictures])).picture

    def carry_out(self, pilot: Pilot, answer: str) -> bool:
        """Carry out a whole answer; returns whether the robot is to look again."""
        pilot.begin(0.0)
        pilot.committed(answer, 0.0)
        pilot.finished(0.0)
        while not pilot.idle:
            self.body.move(pilot.velocity(0.0, PERIOD_S), PERIOD_S)
        self.said_stop = pilot.reached
        return pilot.wants_to_look and not pilot.reached and pilot.refused is None


def make_trials(seed: int, count: int) -> list[Trial]:
    """Trials in rooms of five things each."""
    return [_make_trial(np.random.default_rng([seed, number])) for number in range(count)]


def _make_trial(rng: np.random.Generator) -> Trial:
    room = make_room(rng)
    goal = room.things[rng.integers(len(room.things))]
    start = Pose(0.0, 0.0, float(rng.uniform(-math.pi, math.pi)))
    return Trial(room, goal, request(rng, goal.name), Body(room, start), int(rng.integers(2**31)))
