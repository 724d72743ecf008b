"""A plain room for tests."""

import numpy as np

from edgespec.robot.rooms import Room, Thing


def room_with(*things: tuple[str, str, float, float]) -> Room:
    """Things as (colour, kind, x, y) in a grey room of ten metres."""
    light = np.array([0.3, 0.4, 0.866])
    grey = np.array([150.0, 150.0, 150.0])
    return Room(tuple(Thing(*one, 0.0) for one in things), 5.0, 5.0, grey, 0.6 * grey, light, 0.5)
