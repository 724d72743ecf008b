"""A Unitree Go2 that walks in a simulated room: a `Body` whose legs MuJoCo simulates and a walking policy moves.

The policy follows speeds only roughly, so the body steers by where it should be by now, as a robot does by its
odometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgespec.robot.body import WALL, Body
from edgespec.robot.go2_scene import EYE, STANDING_M, STEP_S, build_scene, go2_files, mujoco, turned
from edgespec.robot.pilot import STILL, Velocity
from edgespec.robot.rooms import Pose, wrapped

TICK_S = 0.02
"""From one action of the policy to the next."""

JOINTS = [f"go2/{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf")]
"""In the policy's order."""

REST = np.tile([0.0, 0.8, -1.5], 4)
ACTION_SCALE = np.tile([0.125, 0.25, 0.25], 4)
STIFFNESS, DAMPING = 20.0, 0.5
MOST_COMMAND = np.array([0.8, 0.3, 1.2])
MOST_CHANGE = np.array([0.05, 0.04, 0.10])
"""Of the speeds ahead, to the left and around that the policy is asked for: the most, and the most a tick."""

PULL = np.array([1.5, 1.5, 2.0])
"""How strongly it steers back to where it should be, a second."""

MOST_BEHIND_M = 0.3
"""It is never asked to catch up more, such as where something stands in its way."""

STANDING_S = 1.0
FRAME_S = 0.2
"""From one kept state to the next."""


class Legs:
    """The simulated robot and its policy."""

    def __init__(self, model: Any) -> None:
        self._mujoco, self.model = mujoco(), model
        self.data = self._mujoco.MjData(model)
        joints = [model.joint(name).id for name in JOINTS]
        self._places, self._speeds = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        motors = {int(model.actuator_trnid[motor, 0]): motor for motor in range(model.nu)}
        self._motors = np.array([motors[joint] for joint in joints])
        self._torques = model.actuator_ctrlrange[self._motors, 1]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._policy = onnxruntime.InferenceSession(
            str(go2_files() / "policy" / "policy.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._action = np.zeros(len(JOINTS))

    def stand(self, pose: Pose) -> None:
        self.data.qpos[:7] = [pose.x, pose.y, STANDING_M, *turned(pose.yaw)]
        self.data.qpos[self._places] = REST
        self._mujoco.mj_forward(self.model, self.data)

    @property
    def pose(self) -> Pose:
        w, x, y, z = self.data.qpos[3:7]
        yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return Pose(float(self.data.qpos[0]), float(self.data.qpos[1]), yaw)

    def tick(self, command: NDArray[np.float64]) -> None:
        """command: speeds ahead, to the left, and around to the left."""
        data, turn = self.data, np.zeros(9)
        self._mujoco.mju_quat2Mat(turn, data.qpos[3:7])
        down = turn.reshape(3, 3).T @ [0.0, 0.0, -1.0]
        angles, speeds = data.qpos[self._places], data.qvel[self._speeds]
        seen = np.concatenate(
            [data.qvel[3:6] * 0.25, down, command, angles - REST, speeds * 0.05, self._action]
        )
        (found,) = self._policy.run(None, {self._policy.get_inputs()[0].name: seen.astype(np.float32)[None]})
        self._action = np.clip(found[0].astype(float), -100, 100)
        wanted = REST + self._action * ACTION_SCALE
        for _ in range(round(TICK_S / STEP_S)):
            torque = STIFFNESS * (wanted - data.qpos[self._places]) - DAMPING * data.qvel[self._speeds]
            data.ctrl[self._motors] = np.clip(torque, -self._torques, self._torques)
            self._mujoco.mj_step(self.model, data)

    def touched(self) -> set[int]:
        """What the robot touches beside the floor: the index of a thing, or WALL."""
        found = set[int]()
        for contact in self.data.contact:
            bodies = [self.model.body(self.model.geom_bodyid[geom]).name for geom in contact.geom]
            if not any(name.startswith("go2/") for name in bodies):
                continue
            found |= {int(name.removeprefix("thing")) for name in bodies if name.startswith("thing")}
            found |= {WALL for geom in contact.geom if self.model.geom(geom).name.startswith("wall")}
        return found


@dataclass
class Go2Body(Body):
    """faster: how much faster than the robot's own time the caller's passes. states: joint positions every FRAME_S, for
    a film. Raises EdgespecError where MuJoCo or the Go2's files are not installed."""

    faster: float = 1.0
    states: list[NDArray[np.float64]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._legs = Legs(build_scene(self.room, self.pose))
        self._legs.stand(self.pose)
        self._wanted, self._command, self._owed_s, self._ticks = self.pose, np.zeros(3), 0.0, 0
        self.move(STILL, STANDING_S / self.faster)
        self.path.clear()

    def move(self, velocity: Velocity, period_s: float) -> None:
        speed, around = velocity.metres_per_s / self.faster, velocity.radians_per_s / self.faster
        self.path.append(self.pose)
        self._owed_s += period_s * self.faster
        while self._owed_s >= TICK_S:
            self._owed_s -= TICK_S
            self._step(speed, around)
        self.pose = self._legs.pose
        self.bumps |= self._legs.touched()

    def _step(self, speed: float, around: float) -> None:
        wanted, here = self._wanted, self._legs.pose
        yaw = wanted.yaw + around * TICK_S
        x, y = wanted.x + speed * TICK_S * math.cos(yaw), wanted.y + speed * TICK_S * math.sin(yaw)
        behind = math.hypot(x - here.x, y - here.y)
        share = min(1.0, MOST_BEHIND_M / behind) if behind else 1.0
        self._wanted = Pose(here.x + share * (x - here.x), here.y + share * (y - here.y), yaw)
        ahead_x, ahead_y = math.cos(here.yaw), math.sin(here.yaw)
        away_x, away_y = self._wanted.x - here.x, self._wanted.y - here.y
        error = np.array(
            [
                away_x * ahead_x + away_y * ahead_y,
                away_y * ahead_x - away_x * ahead_y,
                wrapped(yaw - here.yaw),
            ]
        )
        asked = np.clip(np.array([speed, 0.0, around]) + PULL * error, -MOST_COMMAND, MOST_COMMAND)
        self._command = self._command + np.clip(asked - self._command, -MOST_CHANGE, MOST_CHANGE)
        self._legs.tick(self._command)
        self._ticks += 1
        if self._ticks % round(FRAME_S / TICK_S) == 0:
            self.states.append(self._legs.data.qpos.copy())

    def frames(self, height: int, width: int, most: int) -> list[NDArray[np.uint8]]:
        """The walk as at most `most` pictures uint8 [height, 2 * width, 3]: by a camera in the head, and from behind
        and above."""
        m, model = mujoco(), self._legs.model
        data, behind, pictures = m.MjData(model), m.MjvCamera(), []
        behind.distance, behind.elevation = 2.2, -35
        with m.Renderer(model, height, width) as renderer:
            for state in self.states[:: max(1, -(-len(self.states) // most))]:
                data.qpos[:] = state
                m.mj_forward(model, data)
                behind.lookat[:] = [state[0], state[1], 0.3]
                behind.azimuth = math.degrees(2 * math.atan2(state[6], state[3]))
                sides = []
                for camera in (f"go2/{EYE}", behind):
                    renderer.update_scene(data, camera)
                    sides.append(renderer.render().copy())
                pictures.append(np.concatenate(sides, 1))
        return pictures
