"""`edgespec ros`: drive a robot from ROS 2: pictures and instructions in, speeds and text out."""

from __future__ import annotations

import click

from edgespec.cli.options import Connection, Speculation, connection, sampling, speculation
from edgespec.cli.streaming import SessionMaker
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import DEVICE
from edgespec.edge.session import Session
from edgespec.robot.asking import SessionAsk

ROS_ARGUMENTS = "--ros-args"


class RosCommand(click.Command):
    """Leaves `--ros-args` and all behind it to ROS."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args.index(ROS_ARGUMENTS) if ROS_ARGUMENTS in args else len(args)
        ctx.obj = args[own:]
        return super().parse_args(ctx, args[:own])


@click.command(
    cls=RosCommand, epilog="What follows --ros-args goes to ROS: parameters, remappings, log levels."
)
@speculation
@sampling
@connection
@click.pass_obj
def ros(
    ros_arguments: list[str], speculation: Speculation, params: SamplingParams, connection: Connection
) -> None:
    """Run the ROS 2 node `edgespec`: it looks, asks the target and drives.

    Topics: image/compressed and ~/instruction in; cmd_vel, ~/partial, ~/provisional and ~/answer out; ~/cancel stops
    the robot. Give --server a target that takes pictures. Needs a ROS 2 installation on Python's path.
    """
    if connection.server is None:
        raise EdgespecError("a robot needs a target that sees: give --server HOST:PORT.")
    if speculation.mode == DEVICE:
        raise EdgespecError(
            "mode `device` commits nothing, so the robot would never move: choose another --mode."
        )
    try:
        from edgespec.robot.ros_node import spin
    except ImportError as error:
        raise EdgespecError(
            f"ROS 2 is not on Python's path ({error}): source its setup.bash, or install ros-rclpy[fastrtps], "
            "ros-std-msgs, ros-sensor-msgs and ros-geometry-msgs."
        ) from None
    servers, maker = connection.server, SessionMaker(speculation, params, connection)

    def opened() -> Session:
        session = maker.open(servers)
        assert isinstance(session, Session)
        return session

    ask = SessionAsk(opened)
    spin(ask, ask.cancel, ros_arguments)
