"""A kinematic base in a room: it moves as it is told, and stands where it would run into something."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from edgespec.robot.pilot import Velocity
from edgespec.robot.rooms import Pose, Room
from edgespec.robot.shapes import EXTENT

RADIUS_M = 0.25
CONTACT_M = 1e-6
WALL = -1


@dataclass
class Body:
    """path: every pose so far. bumps: what stood in its way: the index of a thing, or WALL."""

    room: Room
    pose: Pose = field(default_factory=Pose)
    bumps: set[int] = field(default_factory=set)
    path: list[Pose] = field(default_factory=list)

    def move(self, velocity: Velocity, period_s: float) -> None:
        """Hold these speeds for a control period."""
        turned = replace(self.pose, yaw=self.pose.yaw + velocity.radians_per_s * period_s)
        step, (free, obstacle) = velocity.metres_per_s * period_s, self._way(turned)
        if step > free + CONTACT_M:
            self.bumps.add(obstacle)
        step = min(step, free)
        self.path.append(self.pose)
        self.pose = replace(
            turned, x=turned.x + step * math.cos(turned.yaw), y=turned.y + step * math.sin(turned.yaw)
        )

    def _way(self, pose: Pose) -> tuple[float, int]:
        """How far it may go straight on, and what ends its way. It stands where it touches that, however short the
        periods were."""
        ahead_x, ahead_y = math.cos(pose.yaw), math.sin(pose.yaw)
        ways = [(_to_wall(pose, ahead_x, ahead_y, self.room), WALL)]
        for index, thing in enumerate(self.room.things):
            away_x, away_y = thing.x - pose.x, thing.y - pose.y
            along = away_x * ahead_x + away_y * ahead_y
            reach = EXTENT[thing.kind][0] + RADIUS_M
            inside = reach**2 - (away_x**2 + away_y**2 - along**2)
            if along > 0 and inside > 0:
                ways.append((max(0.0, along - math.sqrt(inside)), index))
        return min(ways)


def _to_wall(pose: Pose, ahead_x: float, ahead_y: float, room: Room) -> float:
    """Metres straight on to a wall."""
    ways = [
        (math.copysign(half - RADIUS_M, ahead) - place) / ahead
        for half, ahead, place in ((room.half_x, ahead_x, pose.x), (room.half_y, ahead_y, pose.y))
        if abs(ahead) > 1e-9
    ]
    return max(0.0, min(ways))
