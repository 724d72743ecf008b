"""What the robot is asked, and what the target is to say: what it sees and where, then commands.

`I see red chair left 20 1.8 m, blue ball ahead 2.4 m. turn left 20; forward 0.8; look`
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgespec.robot.camera import Sighting
from edgespec.robot.rooms import COLOURS, KINDS

BEARING_STEP = 5
"""Degrees between bearings that are said."""

DISTANCE_STEP_M = 0.2
REACH_M = 1.0
"""Where the robot stops before the middle of its goal."""

NEAR_M = 1.2
"""A goal that is no further away is reached."""

LONGEST_STEP_M = 2.4
SEARCH_TURN = 90
"""Degrees to turn where the goal is not in view."""

NAMES = tuple(f"{colour} {kind}" for colour in COLOURS for kind in KINDS)
REQUESTS = ("go to the {}", "walk to the {}", "find the {}", "please go to the {}", "move to the {}")

_NUMBER = r"[0-9]{1,2}"
_COMMAND = rf"(turn (left|right) {_NUMBER}|forward [0-9]\.[0-9]|look|stop)"
_SIGHT = rf"({'|'.join(COLOURS)}) ({'|'.join(KINDS)}) (ahead|(left|right) {_NUMBER}) [0-9]\.[0-9] m"
ANSWER_PATTERN = rf"I see ({_SIGHT}(, {_SIGHT})*|nothing)\. {_COMMAND}(; {_COMMAND})*"
"""A regular expression of every answer; `edgespec.Guide(regex=ANSWER_PATTERN)` holds a model to it."""


def request(rng: np.random.Generator, name: str) -> str:
    """One of the ways to ask for this thing."""
    return REQUESTS[rng.integers(len(REQUESTS))].format(name)


def answer(sightings: Sequence[Sighting], name: str) -> str:
    """What is to be said by a robot that sees this and is asked for the thing of this name."""
    seen = ", ".join(
        f"{one.name} {said_bearing(one.bearing)} {said_distance(one.distance):.1f} m" for one in sightings
    )
    goal = next((one for one in sightings if one.name == name), None)
    return f"I see {seen or 'nothing'}. {'; '.join(_commands(goal))}"


def said_bearing(bearing: float) -> str:
    """A bearing in degrees to the left, in words."""
    rounded = BEARING_STEP * round(bearing / BEARING_STEP)
    return "ahead" if rounded == 0 else f"{'left' if rounded > 0 else 'right'} {abs(rounded)}"


def said_distance(distance: float) -> float:
    return round(DISTANCE_STEP_M * round(distance / DISTANCE_STEP_M), 1)


def _commands(goal: Sighting | None) -> list[str]:
    if goal is None:
        return [f"turn left {SEARCH_TURN}", "look"]
    distance = said_distance(goal.distance)
    if distance <= NEAR_M:
        return ["stop"]
    aside = said_bearing(goal.bearing)
    turn = [] if aside == "ahead" else [f"turn {aside}"]
    return [*turn, f"forward {min(LONGEST_STEP_M, distance - REACH_M):.1f}", "look"]
