"""A kinematic base in a room: it moves as it is told, and stands where it would run into something."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from edgespec.robot.pilot import Velocity
from edgespec.robot.rooms import Pose, Room
from edgespec.robot.shapes import EXTENT

RADIUS_M = 0.25


@dataclass
class Body:
    """path: every pose so far. bumps: what stood in its way: the index of a thing, or -1 for a wall."""

    room: Room
    pose: Pose = field(default_factory=Pose)
    bumps: set[int] = field(default_factory=set)
    path: list[Pose] = field(default_factory=list)

    def move(self, velocity: Velocity, period_s: float) -> None:
        """Hold these speeds for a control period."""
        turned = replace(self.pose, yaw=self.pose.yaw + velocity.radians_per_s * period_s)
        step = velocity.metres_per_s * period_s
        moved = replace(
            turned, x=turned.x + step * math.cos(turned.yaw), y=turned.y + step * math.sin(turned.yaw)
        )
        if step and (blocked := self._in_the_way(moved)):
            self.bumps |= blocked
            moved = turned
        self.path.append(self.pose)
        self.pose = moved

    def _in_the_way(self, pose: Pose) -> set[int]:
        room = self.room
        blocked = {
            index
            for index, thing in enumerate(room.things)
            if pose.distance_to(thing.x, thing.y) <= EXTENT[thing.kind][0] + RADIUS_M
        }
        inside = abs(pose.x) < room.half_x - RADIUS_M and abs(pose.y) < room.half_y - RADIUS_M
        return blocked if inside else blocked | {-1}
