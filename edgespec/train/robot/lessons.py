"""What is learnt from: pictures of random rooms, what each of their cells shows, requests and their answers.

Pictures lie in a ring that is drawn from and refilled all the time, and are mirrored half of the time: rendering one
takes a third of the time of learning from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.picture_files import decode
from edgespec.robot.camera import HEIGHT, LINE_EVERY, WIDTH, Sighting, View, jpeg, look, with_lines
from edgespec.robot.language import NAMES, answer, request
from edgespec.robot.rooms import COLOURS, KINDS, Pose, Room, make_room
from edgespec.train.robot.shape import MERGE, PATCH

CELL = PATCH * MERGE
ROWS, COLUMNS = HEIGHT // CELL, WIDTH // CELL
CELLS = ROWS * COLUMNS

LEAST_SHARE = 0.03
"""Of a cell's pixels: what a thing must cover to be what the cell shows."""

RING = 4000
NEAR_SHARE, ABSENT_SHARE, COMPRESSED_SHARE = 0.4, 0.15, 0.6
"""Of the pictures, those on the way to a thing; of the requests, those for a thing that may not be there;
of the pictures, those that went through a JPEG."""


@dataclass(frozen=True)
class CellLabels:
    """What each cell of a picture shows, each [CELLS]: colour and kind int64 (-1: nothing), bearing float32 in degrees
    to the left and distance float32 in metres of that thing's middle."""

    colour: NDArray[np.int64]
    kind: NDArray[np.int64]
    bearing: NDArray[np.float32]
    distance: NDArray[np.float32]

    def mirrored(self) -> CellLabels:
        def flip(values: NDArray[Any]) -> NDArray[Any]:
            return values.reshape(ROWS, COLUMNS)[:, ::-1].reshape(-1)

        return CellLabels(flip(self.colour), flip(self.kind), -flip(self.bearing), flip(self.distance))


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it."""

    picture: NDArray[np.uint8]
    sightings: tuple[Sighting, ...]
    cells: CellLabels

    def mirrored(self) -> Scene:
        turned = tuple(replace(one, bearing=-one.bearing) for one in reversed(self.sightings))
        picture = self.picture[:, ::-1].copy()
        old = slice(LINE_EVERY - 1, None, LINE_EVERY)
        picture[:, old] = picture[
            :, LINE_EVERY - 2 :: LINE_EVERY
        ]  # paint over the lines that were mirrored too
        return Scene(with_lines(picture), turned, self.cells.mirrored())

    def ask(self, rng: np.random.Generator) -> tuple[str, str]:
        """A request, mostly for something in view, and the answer to it."""
        if self.sightings and rng.random() > ABSENT_SHARE:
            name = self.sightings[rng.integers(len(self.sightings))].name
        else:
            name = NAMES[rng.integers(len(NAMES))]
        return request(rng, name), answer(self.sightings, name)


class Scenes:
    """An endless supply of scenes. ring: how many are kept at once; each batch brings `fresh` of it anew."""

    def __init__(self, seed: int, ring: int = RING, fresh: float = 0.2) -> None:
        self._rng = np.random.default_rng(seed)
        self._size, self._fresh = ring, fresh
        self._ring: list[Scene] = []
        self._oldest = 0

    def next(self, count: int) -> list[Scene]:
        while len(self._ring) < min(self._size, 4 * count):
            self._ring.append(draw_scene(self._rng))
        for _ in range(max(1, round(self._fresh * count))):
            scene = draw_scene(self._rng)
            if len(self._ring) < self._size:
                self._ring.append(scene)
            else:
                self._ring[self._oldest] = scene
                self._oldest = (self._oldest + 1) % self._size
        chosen = self._rng.integers(len(self._ring), size=count)
        mirrored = self._rng.random(count) < 0.5
        return [
            self._ring[one].mirrored() if flip else self._ring[one]
            for one, flip in zip(chosen, mirrored, strict=True)
        ]

    def ask(self, scene: Scene) -> tuple[str, str]:
        return scene.ask(self._rng)

    def state(self) -> dict[str, Any]:
        """Of the random numbers. The ring is filled again."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random room from a random place of a robot that looks around, or is on its way to a thing."""
    room = make_room(rng, int(rng.integers(4, 9)))
    pose = Pose(0.0, 0.0, float(rng.uniform(-math.pi, math.pi)))
    if rng.random() < NEAR_SHARE:
        pose = _on_the_way(rng, room)
    view = look(room, pose, rng)
    picture = view.picture
    if rng.random() < COMPRESSED_SHARE:
        picture = decode(jpeg(picture, int(rng.integers(80, 96))))
    return Scene(picture, view.sightings, label_cells(room, view, pose))


def _on_the_way(rng: np.random.Generator, room: Room) -> Pose:
    goal = room.things[rng.integers(len(room.things))]
    distance, bearing = math.hypot(goal.x, goal.y), math.atan2(goal.y, goal.x)
    gone = max(0.0, distance - rng.uniform(0.7, 2.0))
    heading = bearing + math.radians(rng.uniform(-35, 35))
    aside = rng.uniform(-0.15, 0.15)
    x = gone * math.cos(bearing) - aside * math.sin(bearing)
    y = gone * math.sin(bearing) + aside * math.cos(bearing)
    return Pose(float(x), float(y), float(heading))


def label_cells(room: Room, view: View, pose: Pose) -> CellLabels:
    """What each cell shows: of the things that cover enough of it, the one that covers most."""
    count = len(room.things)
    blocks = view.shown.reshape(ROWS, CELL, COLUMNS, CELL).transpose(0, 2, 1, 3).reshape(CELLS, -1)
    covered = np.stack([(blocks == index).sum(1) for index in range(count)], 1)
    shown = np.where(covered.max(1) >= LEAST_SHARE * CELL * CELL, covered.argmax(1), -1)
    colours, kinds = list(COLOURS), list(KINDS)
    facts = np.array(
        [
            (
                colours.index(thing.colour),
                kinds.index(thing.kind),
                math.degrees(pose.bearing_to(thing.x, thing.y)),
                pose.distance_to(thing.x, thing.y),
            )
            for thing in room.things
        ]
        + [(-1, -1, 0.0, 0.0)]
    )[shown]
    return CellLabels(
        facts[:, 0].astype(np.int64),
        facts[:, 1].astype(np.int64),
        facts[:, 2].astype(np.float32),
        facts[:, 3].astype(np.float32),
    )
