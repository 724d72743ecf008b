"""Simulated rooms: a floor, four walls and coloured things around the place where the robot begins.

Metres and radians; x is ahead and y is left of the robot's first pose, angles count to the left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOURS = {
    "red": (205, 45, 40),
    "green": (45, 155, 65),
    "blue": (45, 85, 205),
    "yellow": (225, 200, 45),
    "purple": (140, 60, 170),
    "white": (235, 235, 235),
}
KINDS = ("chair", "table", "ball", "box", "cone")

NEAREST_M, FARTHEST_M = 1.3, 3.8
CLEARANCE_M = 0.75
"""Between the straight way to a thing and the middle of any other."""


@dataclass(frozen=True)
class Thing:
    """x, y: its middle on the floor."""

    colour: str
    kind: str
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Pose:
    """Where the robot stands and looks."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0

    def bearing_to(self, x: float, y: float) -> float:
        """Of a point, in radians, to the left, within ±π."""
        return wrapped(math.atan2(y - self.y, x - self.x) - self.yaw)

    def distance_to(self, x: float, y: float) -> float:
        return math.hypot(x - self.x, y - self.y)


@dataclass(frozen=True)
class Room:
    """half_x, half_y: of its sides. wall, floor: float [3], colours from 0 to 255. light: unit vector towards it.
    tile: side of the floor's tiles."""

    things: tuple[Thing, ...]
    half_x: float
    half_y: float
    wall: NDArray[np.float64]
    floor: NDArray[np.float64]
    light: NDArray[np.float64]
    tile: float


def wrapped(angle: float) -> float:
    """The same angle within ±π."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def make_room(rng: np.random.Generator, things: int = 5) -> Room:
    """A room with this many things of different names, each with a free straight way from the origin; fewer where
    no more find a place."""
    placed: list[Thing] = []
    for _ in range(40 * things):
        if len(placed) == things:
            break
        one = _draw_thing(rng)
        if all(other.name != one.name and _apart(one, other) for other in placed):
            placed.append(one)
    light = rng.normal(size=3) * [1, 1, 0.3] + [0, 0, 1.2]
    half_x, half_y = rng.uniform(4.6, 6.5, 2)
    return Room(
        tuple(placed),
        float(half_x),
        float(half_y),
        wall=rng.uniform(140, 205) + rng.uniform(-15, 15, 3),
        floor=rng.uniform(70, 140) + rng.uniform(-20, 20, 3),
        light=light / np.linalg.norm(light),
        tile=float(rng.uniform(0.4, 1.0)),
    )


def _draw_thing(rng: np.random.Generator) -> Thing:
    bearing, distance = rng.uniform(-math.pi, math.pi), rng.uniform(NEAREST_M, FARTHEST_M)
    return Thing(
        list(COLOURS)[rng.integers(len(COLOURS))],
        KINDS[rng.integers(len(KINDS))],
        distance * math.cos(bearing),
        distance * math.sin(bearing),
        float(rng.uniform(-math.pi, math.pi)),
    )


def _apart(one: Thing, other: Thing) -> bool:
    """Whether each stands clear of the other's straight way from the origin."""
    angle = wrapped(math.atan2(one.y, one.x) - math.atan2(other.y, other.x))
    if abs(angle) >= math.pi / 2:
        return True
    nearer = min(math.hypot(one.x, one.y), math.hypot(other.x, other.y))
    return nearer * abs(math.sin(angle)) >= CLEARANCE_M
