"""The bodies of things, and where rays meet them.

Each function takes an origin float32 [3] and directions float32 [N, 3] in the thing's own frame and returns distances
float32 [N] in units of the directions (inf: not met) and normals float32 [N, 3].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Meeting = tuple[Floats, Floats]

EPSILON = 0.02
BALL_RADIUS = 0.28
CONE_RADIUS, CONE_HEIGHT = 0.30, 0.80


def _boxes(*corners: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Floats:
    """[N, 2, 3]: low and high corners."""
    return np.array(corners, np.float32)


def _legs(
    x: float, y: float, half: float, height: float
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    places = [(sx * x, sy * y) for sx in (-1, 1) for sy in (-1, 1)]
    return [((px - half, py - half, 0.0), (px + half, py + half, height)) for px, py in places]


BOXES: dict[str, Floats] = {
    "box": _boxes(((-0.25, -0.25, 0.0), (0.25, 0.25, 0.45))),
    "chair": np.array(
        [
            ((-0.25, -0.25, 0.40), (0.25, 0.25, 0.47)),
            ((-0.25, -0.25, 0.47), (-0.17, 0.25, 0.98)),
            *_legs(0.21, 0.21, 0.035, 0.42),
        ],
        np.float32,
    ),
    "table": np.array([((-0.5, -0.35, 0.58), (0.5, 0.35, 0.68)), *_legs(0.45, 0.30, 0.045, 0.6)], np.float32),
}

EXTENT: dict[str, tuple[float, float]] = {
    "box": (0.36, 0.45),
    "chair": (0.36, 0.98),
    "table": (0.62, 0.68),
    "ball": (BALL_RADIUS, 2 * BALL_RADIUS),
    "cone": (CONE_RADIUS, CONE_HEIGHT),
}
"""Of each kind: the radius and the height of an upright cylinder around it, in metres."""


def meet_boxes(boxes: Floats, origin: Floats, directions: Floats) -> Meeting:
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / directions.T  # [3, N]
        low, high = ((boxes[:, side] - origin)[..., None] * inverse for side in (0, 1))  # [B, 3, N]
    enter = np.minimum(low, high)
    leave = np.maximum(low, high, out=low)
    near = np.maximum(np.maximum(enter[:, 0], enter[:, 1]), enter[:, 2])
    far = np.minimum(np.minimum(leave[:, 0], leave[:, 1]), leave[:, 2])
    near = np.where((near < far) & (near > EPSILON), near, np.float32(np.inf))
    first, rays = near.argmin(0), np.arange(len(directions))
    axis = enter[first, :, rays].argmax(1)
    normals = np.zeros_like(directions)
    normals[rays, axis] = -np.sign(directions[rays, axis])
    return near[first, rays], normals


def meet_ball(origin: Floats, directions: Floats) -> Meeting:
    centred = origin - np.array([0, 0, BALL_RADIUS], np.float32)
    a, b = (directions**2).sum(1), directions @ centred
    root = b * b - a * (centred @ centred - np.float32(BALL_RADIUS**2))
    t = _nearest((-b - np.sqrt(np.maximum(root, 0))) / a, root > 0)
    return t, (centred + directions * _finite(t)) / np.float32(BALL_RADIUS)


def meet_cone(origin: Floats, directions: Floats) -> Meeting:
    slope = np.float32((CONE_RADIUS / CONE_HEIGHT) ** 2)
    above = np.float32(CONE_HEIGHT) - origin[2]
    a = directions[:, 0] ** 2 + directions[:, 1] ** 2 - slope * directions[:, 2] ** 2
    b = directions[:, 0] * origin[0] + directions[:, 1] * origin[1] + slope * directions[:, 2] * above
    c = origin[0] ** 2 + origin[1] ** 2 - slope * above**2
    root = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        height = origin[2] + directions[:, 2] * t
    t = _nearest(t, (root > 0) & (height > 0) & (height < CONE_HEIGHT))
    met = origin + directions * _finite(t)
    normals = np.stack([met[:, 0], met[:, 1], slope * (np.float32(CONE_HEIGHT) - met[:, 2])], 1)
    return t, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-6))


def meet(kind: str) -> Callable[[Floats, Floats], Meeting]:
    """How rays meet a thing of this kind."""
    if kind in BOXES:
        return lambda origin, directions: meet_boxes(BOXES[kind], origin, directions)
    return meet_ball if kind == "ball" else meet_cone


def _nearest(t: Floats, met: NDArray[np.bool_]) -> Floats:
    return np.where(met & (t > EPSILON), t, np.float32(np.inf)).astype(np.float32)


def _finite(t: Floats) -> Floats:
    return np.where(np.isfinite(t), t, np.float32(0))[:, None]
