"""Start the edgespec node: ros2 launch edgespec_robot robot.launch.py server:=HOST:PORT draft:=FOLDER"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

CONFIG = Path(__file__).resolve().parent.parent / "config" / "robot.yaml"


def generate_launch_description() -> LaunchDescription:
    arguments = {
        "server": ("127.0.0.1:7433", "address of `edgespec serve`"),
        "draft": ("", "folder that `edgespec compile` wrote"),
        "mode": ("auto", "how to speculate"),
        "camera": ("/camera/image_raw/compressed", "topic of compressed pictures"),
        "cmd_vel": ("/cmd_vel", "topic of speeds"),
        "params": (str(CONFIG), "file with the node's parameters"),
    }
    told = {name: LaunchConfiguration(name) for name in arguments}
    node = ExecuteProcess(
        cmd=[
            *(
                "edgespec",
                "ros",
                "--server",
                told["server"],
                "--draft",
                told["draft"],
                "--mode",
                told["mode"],
            ),
            *("--ros-args", "--params-file", told["params"]),
            *("-r", ["image/compressed:=", told["camera"]], "-r", ["cmd_vel:=", told["cmd_vel"]]),
        ],
        output="screen",
    )
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=text)
        for name, (value, text) in arguments.items()
    ]
    return LaunchDescription([*declared, node])
