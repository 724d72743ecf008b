"""The ROS 2 node, with a scripted target, where rclpy is installed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgespec.edge.step import Statistics, Step

rclpy = pytest.importorskip("rclpy", reason="needs a ROS 2 Python: ros-rclpy[fastrtps] from PyPI will do")

DEADLINE_S = 20.0


def said(text: str, finish: str | None = None, **news: Any) -> Step:
    return Step([1] if text else [], text, None, finish, Statistics(), **news)


class Scripted:
    """An `Ask` that says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []
        self.steps: list[Step] = []
        self.cancelled = threading.Event()

    def __call__(self, picture: bytes, request: str) -> Iterator[Step]:
        self.pictures.append(picture)
        while not self.cancelled.is_set():
            step = self.steps.pop(0) if self.steps else said("")
            yield step
            if step.finish_reason is not None:
                return
            time.sleep(0.01)
        yield said("", "cancelled")


class Rig:
    """The node beside one that plays the camera, the user and the base."""

    def __init__(self) -> None:
        from geometry_msgs.msg import Twist
        from rclpy.executors import MultiThreadedExecutor
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CompressedImage
        from std_msgs.msg import Empty, String

        from edgespec.robot import ros_node

        rclpy.init()
        self._over = threading.Event()
        self.ask = Scripted()
        self.node = ros_node.RobotNode(self.ask, self.ask.cancelled.set)
        self.other = rclpy.create_node("tester")
        self.heard: dict[str, list[Any]] = {"partial": [], "provisional": [], "answer": [], "speed": []}
        for name in ("partial", "provisional", "answer"):
            topic = f"/edgespec/{name}"
            self.other.create_subscription(
                String, topic, lambda m, name=name: self.heard[name].append(m.data), 50
            )
        self.other.create_subscription(Twist, "/cmd_vel", lambda m: self.heard["speed"].append(m), 50)
        self._camera = self.other.create_publisher(
            CompressedImage, "/image/compressed", qos_profile_sensor_data
        )
        self._instruction = self.other.create_publisher(String, "/edgespec/instruction", 10)
        self._cancel = self.other.create_publisher(Empty, "/edgespec/cancel", 10)
        self.other.create_timer(
            0.05, lambda: self._camera.publish(CompressedImage(format="jpeg", data=b"a picture"))
        )
        self._string, self._empty = String, Empty
        self._executor = MultiThreadedExecutor(4)
        self._executor.add_node(self.node)
        self._executor.add_node(self.other)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.until(
            lambda: self._instruction.get_subscription_count() and self._cancel.get_subscription_count()
        )

    def tell(self, instruction: str) -> None:
        self._instruction.publish(self._string(data=instruction))

    def cancel(self) -> None:
        self._cancel.publish(self._empty())

    def until(self, condition: Callable[[], Any]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, "it did not happen in time"
            time.sleep(0.005)

    def _spin(self) -> None:
        while not self._over.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.ask.cancelled.set()
        self._over.set()
        self._thread.join(DEADLINE_S)
        self._executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        self.other.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_an_instruction_becomes_text_and_speeds_and_looks_again(rig: Rig) -> None:
    rig.ask.steps = [said("I see red chair left 20 1.2 m. turn left 20;"), said(" forward 0.2; look", "stop")]
    rig.ask.steps += [said("I see red chair ahead 1.0 m. stop", "stop")]
    rig.tell("go to the red chair")
    rig.until(lambda: rig.heard["answer"])
    assert "".join(rig.heard["partial"]).startswith("I see red chair left 20")
    assert rig.heard["answer"] == ["I see red chair ahead 1.0 m. stop (the goal is reached)"]
    assert rig.ask.pictures == [b"a picture"] * 2
    turning = [one.angular.z for one in rig.heard["speed"] if one.angular.z]
    going = [one.linear.x for one in rig.heard["speed"] if one.linear.x]
    assert min(turning) > 0 and sum(turning) * 0.05 == pytest.approx(0.349, rel=0.05)
    assert sum(going) * 0.05 == pytest.approx(0.2, rel=0.05)


def test_cancel_stops_the_robot_in_mid_answer(rig: Rig) -> None:
    rig.ask.steps = [said("forward 3.0;")]
    rig.tell("go")
    rig.until(lambda: any(one.linear.x for one in rig.heard["speed"]))
    rig.cancel()
    rig.until(lambda: rig.heard["answer"])
    assert rig.heard["answer"] == ["forward 3.0; (cancelled)"]
    rig.until(lambda: rig.heard["speed"][-1].linear.x == 0.0)


def test_the_watchdog_stops_a_robot_whose_answer_stalls(rig: Rig) -> None:
    rig.ask.steps = [said("forward 3.0;")]
    rig.tell("go")
    rig.until(lambda: any(one.linear.x for one in rig.heard["speed"]))
    rig.until(lambda: rig.heard["speed"][-1].linear.x == 0.0)
    assert not rig.heard["answer"]


def test_provisional_text_is_told_and_slows_the_robot(rig: Rig) -> None:
    rig.ask.steps = [said("forward 3.0;"), said("", provisional=" look")]
    rig.tell("go")
    rig.until(lambda: rig.heard["provisional"] == [" look"])
    rig.until(lambda: any(0 < one.linear.x < 0.2 for one in rig.heard["speed"]))


def test_without_a_camera_the_instruction_ends_with_a_sentence(rig: Rig) -> None:
    rig.node.set_parameters([rclpy.parameter.Parameter("picture_timeout_s", value=0.0)])
    rig.tell("go")
    rig.until(lambda: rig.heard["answer"])
    assert "no picture came" in rig.heard["answer"][0]
