"""The ROS 2 node: pictures and instructions in, speeds and text out. Only this file imports ROS.

Needs rclpy, sensor_msgs, geometry_msgs and std_msgs; serves the action `~/drive` where the package edgespec_msgs of
`ros/` is built.
"""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

import rclpy
from geometry_msgs.msg import Twist
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Empty, String

from edgespec.core.errors import EdgespecError
from edgespec.edge.step import Step
from edgespec.robot.commands import Limits
from edgespec.robot.mission import MOST_LOOKS, Ask, Mission, Outcome
from edgespec.robot.pilot import STILL, Pilot, Velocity

LATEST_PICTURE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)
"""As cameras publish: an old picture is of no use."""

TEXT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.RELIABLE)
ANSWER = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""A late subscriber gets the last answer."""

SPEED = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)

PARAMETERS: dict[str, Any] = {
    "control_hz": 20.0,
    "watchdog_s": 0.5,
    **asdict(Limits()),
    "most_looks": MOST_LOOKS,
    "picture_timeout_s": 2.0,
}


class RobotNode(Node):  # type: ignore[misc]
    """ask: puts a picture and a request to the target. cancel: ends the answer that is under way."""

    def __init__(self, ask: Ask, cancel: Callable[[], None]) -> None:
        super().__init__("edgespec")
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        self._ask, self._cancel_answer = ask, cancel
        self.pilot = Pilot(self._limits(), self._value("watchdog_s"))
        self._period_s = 1.0 / max(1.0, self._value("control_hz"))
        self._pictures = threading.Condition()
        self._picture: tuple[int, bytes] = (0, b"")
        self._mission = threading.Lock()
        self._was_moving = False
        self._publish_topics()
        self._listen()

    def _publish_topics(self) -> None:
        self._partial = self.create_publisher(String, "~/partial", TEXT)
        self._provisional = self.create_publisher(String, "~/provisional", TEXT)
        self._answer = self.create_publisher(String, "~/answer", ANSWER)
        self._speed = self.create_publisher(Twist, "cmd_vel", SPEED)

    def _listen(self) -> None:
        free, control = ReentrantCallbackGroup(), MutuallyExclusiveCallbackGroup()
        subscribe = functools.partial(self.create_subscription, callback_group=free)
        subscribe(CompressedImage, "image/compressed", self._on_picture, LATEST_PICTURE)
        subscribe(String, "~/instruction", lambda message: self._start(message.data), TEXT)
        subscribe(Empty, "~/cancel", lambda message: self.cancel(), TEXT)
        self.create_timer(self._period_s, self._control, callback_group=control)

    def follow(self, instruction: str, told: Callable[[Step], None] = lambda step: None) -> Outcome:
        """Carry out one instruction; at most one at a time. Blocks."""
        if not self._mission.acquire(blocking=False):
            return Outcome([], False, "another instruction is being carried out: cancel it first")
        try:
            mission = Mission(
                self.pilot,
                self._ask,
                self._fresh_picture,
                lambda: time.sleep(self._period_s),
                most_looks=int(self._value("most_looks")),
            )
            outcome = mission.follow(instruction, lambda step: self._tell(step, told))
        except EdgespecError as error:
            outcome = Outcome([], False, str(error))
        finally:
            self.pilot.cancel()
            self._mission.release()
        self.get_logger().info(f"{instruction!r}: {outcome.reason}")
        return outcome

    def cancel(self) -> None:
        """Stand still now, and end the answer that is under way."""
        self.pilot.cancel()
        self._speed.publish(Twist())
        self._cancel_answer()

    def _start(self, instruction: str) -> None:
        threading.Thread(target=self._carry_out, args=(instruction,), daemon=True).start()

    def _carry_out(self, instruction: str) -> None:
        outcome = self.follow(instruction)
        self._answer.publish(String(data=f"{outcome.answer} ({outcome.reason})".strip()))

    def _tell(self, step: Step, told: Callable[[Step], None]) -> None:
        if step.text:
            self._partial.publish(String(data=step.text))
        if step.provisional:
            self._provisional.publish(String(data=step.provisional))
        told(step)

    def _control(self) -> None:
        """Once a control period, in a thread of its own: the watchdog works while an answer is awaited."""
        velocity = self.pilot.velocity(time.monotonic(), self._period_s)
        moving = velocity != STILL
        if moving or self._was_moving:  # a robot that stands is left to others
            self._speed.publish(_twist(velocity))
        self._was_moving = moving

    def _on_picture(self, message: CompressedImage) -> None:
        with self._pictures:
            self._picture = (self._picture[0] + 1, bytes(message.data))
            self._pictures.notify_all()

    def _fresh_picture(self) -> bytes:
        """A picture that came after this was called. Raises EdgespecError."""
        with self._pictures:
            before = self._picture[0]
            came = self._pictures.wait_for(
                lambda: self._picture[0] > before, timeout=self._value("picture_timeout_s")
            )
        if not came:
            raise EdgespecError("no picture came on image/compressed: start the camera, or remap the topic.")
        return self._picture[1]

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _limits(self) -> Limits:
        return Limits(**{field.name: float(self._value(field.name)) for field in fields(Limits)})


def _twist(velocity: Velocity) -> Twist:
    twist = Twist()
    twist.linear.x, twist.angular.z = velocity.metres_per_s, velocity.radians_per_s
    return twist


def spin(ask: Ask, cancel: Callable[[], None], ros_arguments: Sequence[str]) -> None:
    """Run the node until it is interrupted; the robot stands then."""
    rclpy.init(
        args=list(ros_arguments), signal_handler_options=SignalHandlerOptions.NO
    )  # ROS stays up to say so
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = RobotNode(ask, cancel)
    action = serve_action(node)
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    node.get_logger().info(f"ready; the action ~/drive is {'served' if action else 'not built'}")
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if rclpy.ok():
            node.cancel()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()


def serve_action(node: RobotNode) -> Any:
    """The action server `~/drive`; None where its package is not built."""
    try:
        from edgespec_msgs.action import Drive
    except ImportError:
        return None
    from rclpy.action import ActionServer, CancelResponse

    def execute(goal: Any) -> Any:
        def told(step: Step) -> None:
            goal.publish_feedback(
                Drive.Feedback(text=step.text, provisional=step.provisional, revised=step.revised)
            )

        outcome = node.follow(goal.request.instruction, told)
        if goal.is_cancel_requested:
            goal.canceled()
        elif outcome.reached:
            goal.succeed()
        else:
            goal.abort()
        return Drive.Result(
            reached=outcome.reached, reason=outcome.reason, answer=outcome.answer, looks=len(outcome.looks)
        )

    def cancelled(goal: Any) -> Any:
        node.cancel()
        return CancelResponse.ACCEPT

    return ActionServer(
        node,
        Drive,
        "~/drive",
        execute_callback=execute,
        cancel_callback=cancelled,
        callback_group=ReentrantCallbackGroup(),
    )
