"""`edgespec demo --robot`: the runs one after another, a table, pictures, a film and the JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgespec.cli.child import spinner
from edgespec.cli.demo.report import hardware
from edgespec.cli.demo.robot.drives import Device, Drive, drive_all
from edgespec.cli.demo.robot.figures import by_mode, report
from edgespec.cli.demo.robot.outage import drive_through_outage, outage_figures
from edgespec.cli.demo.robot.pictures import film, paths
from edgespec.cli.demo.robot.setting import DIVISOR, LOSS_PERCENT, RobotSetting
from edgespec.cli.demo.robot.walk import walk
from edgespec.cli.demo.runs import link_to, server
from edgespec.cli.flags import PATH, option
from edgespec.cli.table import table
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.engines.draft_engine import load_draft
from edgespec.robot.go2_scene import go2_files
from edgespec.robot.trial import Trial, make_trials

MODES = ("cloud", "sync", "preempt", "auto")
LOSSY_MODES = ("cloud", "auto")
WARM_UP_SEED = 99
COLUMNS = ("mode", "× cloud", "first token, ms", "first command, ms", "answer, ms", "goal, ms", "commands/min",
           "bytes/look")  # fmt: skip


@dataclass(frozen=True)
class RobotDemo:
    """What `--robot` plays."""

    robot: bool = option(
        "Drive a simulated robot by a target that sees instead, at the paper's Go2 timings divided by five. Of the "
        "options above only --seed and --out count.",
        False,
    )
    rooms: int = option("With --robot: how many rooms.", 4, type=click.IntRange(1, 1000))
    json: Path | None = option("With --robot: write the figures to this file too.", type=PATH)
    go2: bool = option(
        "With --robot: let a walking Unitree Go2, simulated by MuJoCo, drive the first room too.", False
    )
    pair: Path | None = option(
        "With --robot: a folder from `edgespec train robot`.",
        show_default="the bundled driving pair",
        type=PATH,
    )


def play_robot(demo: RobotDemo, seed: int, out: Path) -> int:
    """Play everything; 0 where all texts are identical."""
    if demo.go2:
        go2_files()
    robot = RobotSetting.of(demo.pair, demo.rooms, seed)
    out.mkdir(parents=True, exist_ok=True)
    with spinner("loading the draft ..."):
        engine = load_draft(robot.engine)
        tokenizer = Tokenizer.load(engine.tokenizer_path)
    setting = robot.play()
    with server(setting) as address:
        with link_to(address, setting.link) as link:
            device = Device(link.address, engine, tokenizer, setting)
            list(drive_all(device, MODES, lambda: make_trials(WARM_UP_SEED, 1)))
            drives = _shown(device, robot, MODES, _caption(robot, 0.0))
            outage = _outage(device, link.process.pid, robot, drives)
            walked = _walk(device, robot, out / "go2.gif") if demo.go2 else None
        lossy_setting = robot.play(LOSS_PERCENT)
        with link_to(address, lossy_setting.link) as link:
            lossy_device = Device(link.address, engine, tokenizer, lossy_setting)
            lossy = _shown(lossy_device, robot, LOSSY_MODES, _caption(robot, LOSS_PERCENT))
    figures = report(drives, lossy, outage, robot, setting) | ({} if walked is None else {"go2": walked})
    return _told(figures, drives, out, demo.json)


def _shown(device: Device, robot: RobotSetting, modes: tuple[str, ...], caption: str) -> list[Drive]:
    """All drives, with a table that grows."""

    def trials() -> list[Trial]:
        return make_trials(robot.seed, robot.rooms)

    drives: list[Drive] = []
    with Live(_table({}, caption), console=Console(width=120)) as live:
        for drive in drive_all(device, modes, trials):
            drives.append(drive)
            live.update(_table(by_mode(drives), caption))
    return drives


def _outage(
    device: Device, process_id: int, robot: RobotSetting, drives: list[Drive]
) -> dict[str, Any] | None:
    """In the first room in which an answer can be interrupted between two commands."""
    for room, trial in enumerate(make_trials(robot.seed, robot.rooms)):
        undisturbed = next(drive for drive in drives if (drive.mode, drive.room) == ("auto", room))
        drive, outage = drive_through_outage(device, process_id, room, trial, "auto")
        figures = outage_figures(drive, outage, undisturbed)
        if figures is not None:
            return figures
    return None


def _walk(device: Device, robot: RobotSetting, file: Path) -> dict[str, Any]:
    with spinner("the Go2 walks ..."):
        return walk(device, make_trials(robot.seed, 1)[0], file)


def _told(figures: dict[str, Any], drives: list[Drive], out: Path, json: Path | None) -> int:
    for file in (out / "robot.json", *([json] if json is not None else [])):
        save_json(figures, file)
    title = f"the paper's Go2 timings divided by {DIVISOR}; emulated link; {hardware()['processor']}"
    paths([drive for drive in drives if drive.mode == "auto"], out / "paths.png", title)
    with spinner("drawing the film ..."):
        film(
            [drive for drive in drives if drive.room == 0 and drive.mode in LOSSY_MODES],
            out / "robot.gif",
            title,
        )
    outage = figures["outage"]
    if outage is not None:
        correct = outage["correct_after_ms"]
        click.echo(
            f"outage of {outage['length_ms']:.0f} ms: {' → '.join(outage['states'])}; "
            f"{outage['revised_tokens']} unverified tokens replaced; "
            + ("" if correct is None else f"right text {correct:.0f} ms after the link was back; ")
            + f"same text: {'yes' if outage['identical'] else 'no'}"
        )
    if "go2" in figures:
        walked = figures["go2"]
        click.echo(
            f"the Go2 {'reached' if walked['reached'] else 'did not reach'} the first room's goal: "
            f"{walked['walked_m']:.1f} m in {walked['looks']} looks"
        )
    click.echo(f"identical: {'yes' if figures['identical'] else 'no'}")
    click.echo(f"goals reached: {figures['success']:.0%} of {_rooms(figures['rooms'])}")
    click.echo(f"pictures, film and figures: {out}")
    return 0 if figures["identical"] else 1


def _table(figures: Mapping[str, Any], caption: str) -> Table:
    rows = [
        [
            mode,
            f"{one['speed_vs_cloud']:.2f}",
            *(f"{one[name]:.0f}" for name in ("first_token_ms", "first_command_ms", "answer_ms", "goal_ms")),
            f"{one['commands_a_minute']:.0f}",
            f"{one['bytes_a_look']:.0f}",
        ]
        for mode, one in figures.items()
    ]
    return table(COLUMNS, rows, title="the same commands, by mode", caption=caption)


def _caption(robot: RobotSetting, loss_percent: float) -> str:
    link = f"{loss_percent:g} % loss" if loss_percent else "no loss"
    return f"{_rooms(robot.rooms)}; the paper's Go2 timings divided by {DIVISOR}; link emulated, {link}"


def _rooms(count: int) -> str:
    return f"{count} room" if count == 1 else f"{count} rooms"
