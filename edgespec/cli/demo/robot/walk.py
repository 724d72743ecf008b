"""A drive by a Go2 that walks: the target's words move its legs, in MuJoCo.

The target sees the camera's pictures of the place where the Go2 stands, which are what it has learnt from; MuJoCo's
pictures are for the film.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgespec.cli.demo.robot.drives import Device
from edgespec.cli.demo.robot.setting import DIVISOR
from edgespec.cli.extras import needs
from edgespec.robot.go2 import Go2Body
from edgespec.robot.trial import Trial

FRAME_HEIGHT, FRAME_WIDTH = 160, 320
MOST_FRAMES, FRAME_MS = 60, 150


def walk(device: Device, trial: Trial, file: Path) -> dict[str, Any]:
    """Drive a trial by a walking Go2, and film it; the figures."""
    body = Go2Body(trial.room, trial.body.pose, faster=DIVISOR)
    trial.body = body
    drive = device.drive("auto", 0, trial)
    with needs("demo"):
        from PIL import Image
    first, *others = (Image.fromarray(one) for one in body.frames(FRAME_HEIGHT, FRAME_WIDTH, MOST_FRAMES))
    first.save(file, save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return {
        "reached": trial.reached,
        "looks": len(drive.outcome.looks),
        "walked_m": sum(
            one.distance_to(other.x, other.y) for one, other in zip(body.path, body.path[1:], strict=False)
        ),
        "seconds": drive.goal_ms * DIVISOR / 1e3,
    }
