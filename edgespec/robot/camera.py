"""The robot's camera: pictures of a room by casting one ray a pixel, in numpy.

A wide pinhole camera at a quadruped's head. It draws thin heading lines over the picture, as remote controls do; their
colours go from blue at the left over green to red at the right. A model that knows places only relative to each other
reads absolute bearings off them. Walls and floor are computed by columns and rows; a thing is computed only where its
outline may be.
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespec.robot.rooms import COLOURS, Pose, Room, Thing
from edgespec.robot.shapes import EXTENT, Floats, meet

WIDTH, HEIGHT = 168, 84
FIELD_OF_VIEW = math.radians(100)
CAMERA_M = 0.35
"""Height above the floor."""

CEILING_M = 2.6
CEILING = 245
LINE_EVERY = 14
"""Pixels from one heading line to the next."""

FOG = 0.02
"""Share of the light that is lost with each metre."""

SEEN_BEARING = math.radians(47)
"""A thing counts as in view while its middle is no further aside."""

SEEN_PIXELS, SEEN_SHARE = 12, 0.4
"""And this much of its outline must be neither hidden nor cut off."""

_HALF = math.tan(FIELD_OF_VIEW / 2)


@dataclass(frozen=True)
class View:
    """picture: uint8 [HEIGHT, WIDTH, 3]. shown: int8 [HEIGHT, WIDTH], which thing of the room each pixel shows, -1:
    none. sightings: what is in view, from left to right."""

    picture: NDArray[np.uint8]
    shown: NDArray[np.int8]
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True)
class Sighting:
    """A thing in view. index: in the room. bearing: degrees to the left; distance: metres to its middle."""

    index: int
    name: str
    bearing: float
    distance: float


def look(room: Room, pose: Pose, rng: np.random.Generator | None = None) -> View:
    """What the camera sees. rng: of the pixels' noise; None: none."""
    colour, depth = _empty_room(room, pose)
    shown = np.full((HEIGHT, WIDTH), -1, np.int8)
    outlines = [_draw(room, pose, index, colour, depth, shown) for index in range(len(room.things))]
    colour *= (1 - FOG * np.minimum(depth, 15))[..., None]
    if rng is not None:
        colour += rng.integers(-7, 8, colour.shape, dtype=np.int8)
    picture = with_lines(np.clip(colour, 0, 255).astype(np.uint8))
    return View(picture, shown, _sightings(room, pose, shown, outlines))


def with_lines(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of the picture with the heading lines."""
    drawn: NDArray[np.uint8] = picture.copy()
    drawn[:, ::LINE_EVERY] = _lines()
    return drawn


def jpeg(picture: NDArray[np.uint8], quality: int = 90, comment: str = "") -> bytes:
    """The picture as a camera's driver sends it: a baseline JPEG whose colours are as fine as its brightness, because
    heading lines are one pixel wide. comment: in the file; another one is another file of the same pixels. Needs
    Pillow."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0, comment=comment)
    return file.getvalue()


@functools.cache
def _lines() -> NDArray[np.uint8]:
    """uint8 [lines, 3]: their colours."""
    right = np.linspace(0, 1, len(range(0, WIDTH, LINE_EVERY)))
    colours = 255 * np.stack([right, 1 - np.abs(2 * right - 1), 1 - right], 1)
    return np.asarray(colours, np.uint8)


@functools.cache
def _columns() -> Floats:
    """float32 [WIDTH]: the tangent of each column's angle to the right."""
    return np.asarray(((np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1) * _HALF, np.float32)


@functools.cache
def _rows() -> Floats:
    """float32 [HEIGHT]: the tangent of each row's angle upwards."""
    up = 1 - (np.arange(HEIGHT) + 0.5) / HEIGHT * 2
    return np.asarray(up * (_HALF * HEIGHT / WIDTH), np.float32)


def _empty_room(room: Room, pose: Pose) -> tuple[Floats, Floats]:
    """Colours float32 [HEIGHT, WIDTH, 3], and depths [HEIGHT, WIDTH] in metres along the camera's axis."""
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    ahead_x, ahead_y = cos + sin * _columns(), sin - cos * _columns()  # a metre along the axis, by column
    with np.errstate(divide="ignore"):
        to_x = (np.copysign(room.half_x, ahead_x) - pose.x) / ahead_x
        to_y = (np.copysign(room.half_y, ahead_y) - pose.y) / ahead_y
        to_level = np.where(_rows() > 0, CEILING_M - CAMERA_M, -CAMERA_M) / _rows()
    to_wall = np.minimum(to_x, to_y)
    level = to_level[:, None] < to_wall
    depth = np.where(level, to_level[:, None], to_wall).astype(np.float32)
    walls = np.where(to_x < to_y, 1.0, 0.88)[:, None] * room.wall
    colour = np.empty((HEIGHT, WIDTH, 3), np.float32)
    colour[:] = walls
    upper = HEIGHT // 2
    colour[:upper][level[:upper]] = CEILING
    row, column = np.nonzero(level[upper:])
    row += upper
    x = pose.x + depth[row, column] * ahead_x[column]
    y = pose.y + depth[row, column] * ahead_y[column]
    odd = (np.floor(x / room.tile) + np.floor(y / room.tile)) % 2
    colour[row, column] = (0.9 + 0.1 * odd)[:, None] * room.floor
    return colour, depth


def _draw(room: Room, pose: Pose, index: int, colour: Floats, depth: Floats, shown: NDArray[np.int8]) -> int:
    """Draw a thing where it is nearer than what is there; returns the pixels of its whole outline within view."""
    thing = room.things[index]
    window = _window(thing, pose)
    if window is None:
        return 0
    rows, columns = window
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    cos, sin = math.cos(pose.yaw - thing.yaw), math.sin(pose.yaw - thing.yaw)
    right = np.broadcast_to(_columns()[None, columns], shape).ravel()
    up = np.broadcast_to(_rows()[rows, None], shape).ravel()
    directions = np.stack([cos + sin * right, sin - cos * right, up], 1).astype(np.float32)
    near, normals = meet(thing.kind)(
        _turned(pose.x - thing.x, pose.y - thing.y, CAMERA_M, -thing.yaw), directions
    )
    light = normals @ _turned(room.light[0], room.light[1], room.light[2], -thing.yaw)
    lit = (np.float32(0.45) + np.float32(0.55) * np.clip(light, 0, 1))[:, None] * np.array(
        COLOURS[thing.colour], np.float32
    )
    near = near.reshape(shape)
    nearer = near < depth[rows, columns]
    colour[rows, columns][nearer] = lit.reshape(*shape, 3)[nearer]
    depth[rows, columns][nearer] = near[nearer]
    shown[rows, columns][nearer] = index
    return int(np.isfinite(near).sum())


def _turned(x: float, y: float, z: float, angle: float) -> Floats:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([cos * x - sin * y, sin * x + cos * y, z], np.float32)


def _window(thing: Thing, pose: Pose) -> tuple[slice, slice] | None:
    """The rows and columns that a thing may cover; None: it is out of view."""
    radius, height = EXTENT[thing.kind]
    distance, bearing = pose.distance_to(thing.x, thing.y), pose.bearing_to(thing.x, thing.y)
    if distance <= radius + 0.05:
        return slice(0, HEIGHT), slice(0, WIDTH)
    aside = math.asin(radius / distance)
    left, right = -bearing - aside, -bearing + aside
    edge = FIELD_OF_VIEW / 2
    if left > edge or right < -edge:
        return None
    nearest = max(0.1, (distance - radius) * math.cos(edge))
    low, high = (
        -CAMERA_M / nearest,
        (height - CAMERA_M) / (nearest if height > CAMERA_M else distance + radius),
    )
    columns = [_pixel(math.tan(max(-edge, min(edge, angle))) / _HALF, WIDTH) for angle in (left, right)]
    rows = [_pixel(-tangent / (_HALF * HEIGHT / WIDTH), HEIGHT) for tangent in (high, low)]
    return slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)


def _pixel(share: float, size: int) -> int:
    """Of a place from -1 to 1 across the picture."""
    return max(0, min(size - 1, int((share + 1) / 2 * size)))


def _sightings(room: Room, pose: Pose, shown: NDArray[np.int8], outlines: list[int]) -> tuple[Sighting, ...]:
    pixels = np.bincount(shown[shown >= 0], minlength=len(room.things))
    seen = [
        Sighting(
            index,
            thing.name,
            math.degrees(pose.bearing_to(thing.x, thing.y)),
            pose.distance_to(thing.x, thing.y),
        )
        for index, thing in enumerate(room.things)
        if pixels[index] >= max(SEEN_PIXELS, SEEN_SHARE * outlines[index])
        and abs(pose.bearing_to(thing.x, thing.y)) <= SEEN_BEARING
    ]
    return tuple(sorted(seen, key=lambda one: -one.bearing))
