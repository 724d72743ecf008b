"""The robot's paths, and a film of one room: two modes side by side, on one clock."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgespec.cli.demo.pictures import canvas, picture
from edgespec.cli.demo.robot.drives import Drive, Moment
from edgespec.robot.camera import look
from edgespec.robot.rooms import COLOURS, Room
from edgespec.robot.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"chair": "P", "table": "D", "ball": "o", "box": "s", "cone": "^"}
STATE_COLOURS = {"free": "#4c78a8", "slow": "#f2a541", "stopped": "#d62728"}
FRAMES, FRAMES_A_SECOND = 70, 10


def paths(drives: Sequence[Drive], file: Path, title: str, most: int = 6) -> None:
    """The path in each of the first rooms, seen from above."""
    shown = list(drives[:most])
    with picture(file, 1, ncols=len(shown), figsize=(3.2 * len(shown), 3.8)) as (figure, panels):
        for drive, axes in zip(shown, panels[0], strict=True):
            _draw_room(axes, drive.trial)
            axes.plot(*_places(drive.trial), color=STATE_COLOURS["free"], linewidth=2)
            looks = len(drive.outcome.looks)
            axes.set_title(
                f"{drive.trial.request}\n{looks} looks, {'reached' if drive.trial.reached else 'not reached'}",
                fontsize=8,
            )
        figure.suptitle(title, fontsize=9)
        figure.tight_layout()


def film(drives: Sequence[Drive], file: Path, title: str) -> None:
    """A GIF of the same room in several modes: what each robot sees, where it is, and what it has been told so far."""
    end_ms = max(drive.goal_ms for drive in drives)
    size = (4.2 * len(drives), 6.4)
    with canvas(file, 2, ncols=len(drives), figsize=size, height_ratios=(2, 1)) as (figure, panels):
        from matplotlib.animation import FuncAnimation, PillowWriter

        figure.subplots_adjust(left=0.03, right=0.97, top=0.9, bottom=0.1, wspace=0.05, hspace=0.08)
        figure.suptitle(title, fontsize=8)

        def draw(frame: int) -> list[Any]:
            time_ms = end_ms * (frame + 1) / FRAMES
            for drive, (above, eye) in zip(drives, panels.T, strict=True):
                _draw_frame(above, eye, drive, time_ms)
            return []

        animation = FuncAnimation(figure, draw, frames=FRAMES, blit=False)
        animation.save(file, writer=PillowWriter(fps=FRAMES_A_SECOND), dpi=64)


def _draw_frame(above: Axes, eye: Axes, drive: Drive, time_ms: float) -> None:
    before = [moment for moment in drive.moments if moment.time_ms <= time_ms] or drive.moments[:1]
    now = before[-1]
    above.clear()
    _draw_room(above, drive.trial)
    above.plot([one.pose.x for one in before], [one.pose.y for one in before], color="#888888", linewidth=1)
    _draw_robot(above, now)
    done = " (there)" if time_ms >= drive.goal_ms else ""
    above.set_title(f"{drive.mode}: {min(time_ms, drive.goal_ms) / 1e3:.1f} s{done}", fontsize=9)
    eye.clear()
    eye.imshow(look(drive.trial.room, now.pose).picture, aspect="equal")
    eye.set_axis_off()
    text = "\n".join(textwrap.wrap(now.text, 52)[:3])
    eye.text(0, -0.05, text, transform=eye.transAxes, fontsize=8, va="top")


def _draw_room(axes: Axes, trial: Trial) -> None:
    room: Room = trial.room
    for thing in room.things:
        colour = np.array(COLOURS[thing.colour]) / 255
        axes.scatter(
            thing.x,
            thing.y,
            s=90,
            marker=MARKERS[thing.kind],
            color=[colour],
            edgecolors="#333333",
            linewidths=0.6,
        )
    axes.scatter(trial.goal.x, trial.goal.y, s=320, facecolors="none", edgecolors="#d62728", linewidths=1.2)
    axes.set_xlim(-4.5, 4.5)
    axes.set_ylim(-4.5, 4.5)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_robot(axes: Axes, moment: Moment) -> None:
    pose, colour = moment.pose, STATE_COLOURS[moment.state]
    axes.scatter(pose.x, pose.y, s=60, color=colour, zorder=3)
    axes.arrow(
        pose.x, pose.y, 0.6 * math.cos(pose.yaw), 0.6 * math.sin(pose.yaw), width=0.06, color=colour, zorder=3
    )


def _places(trial: Trial) -> tuple[list[float], list[float]]:
    path = [*trial.body.path, trial.body.pose]
    return [pose.x for pose in path], [pose.y for pose in path]
