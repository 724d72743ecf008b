"""`edgespec demo`: compare the modes over an emulated link: a live table, pictures and a JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgespec.cli.child import spinner
from edgespec.cli.demo.figures import Pacing, Run, identical, mode_figures, speed
from edgespec.cli.demo.fleet import play_fleet
from edgespec.cli.demo.pictures import speeds, timeline
from edgespec.cli.demo.report import hardware, report
from edgespec.cli.demo.robot.command import RobotDemo, play_robot
from edgespec.cli.demo.runs import Setting, bundled_prompts, play, serving
from edgespec.cli.flags import NUMBER, PATH, POSITIVE, about, group, option
from edgespec.cli.options import link_shape_options
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.drafting.modes import policy
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.emulated_link import LinkShape

COLUMNS = ("mode", "tokens/s", "× cloud", "tokens / round", "accepted of sent", "correct hints", "forwards / token",
           "bytes / token")  # fmt: skip

TREES = "auto drafts several continuations at once, of which one at most is accepted"


@dataclass(frozen=True)
class Engines:
    """How fast draft and target run."""

    draft_pace_ms: float = option("Time of each draft run.", 15.05, type=POSITIVE)
    verify_pace_ms: float = option("Time of each target forward.", 104.4, type=POSITIVE)
    unpaced: bool = option("Ignore both times and run as fast as this machine can.", False)
    dtype: str = option("Type of the target's weights, as in `edgespec serve`.", "auto")

    def pacing(self) -> Pacing:
        return Pacing(None, None) if self.unpaced else Pacing(self.draft_pace_ms, self.verify_pace_ms)


@dataclass(frozen=True)
class Comparison:
    """What is played."""

    modes: str = option(
        "Modes to compare, separated by commas; cloud is always one.", "cloud,sync,preempt,auto"
    )
    prompts: int = option("Number of prompts.", 4, type=click.IntRange(1, 100))
    draft_tokens: int = option(
        "Block length of the modes that wait for verdicts.", 4, type=click.IntRange(1, 64)
    )

    def names(self) -> list[str]:
        names = list(dict.fromkeys(["cloud", *(name.strip() for name in self.modes.split(","))]))
        for name in names:
            policy(name)  # refuses an unknown one
        return names


@click.command()
@group(
    "link", LinkShape, **{**link_shape_options, "rtt_ms": {**link_shape_options["rtt_ms"], "default": 19.2}}
)
@group("engines", Engines)
@group(
    "params",
    SamplingParams,
    max_new_tokens=about("Tokens to generate per prompt.", default=48, type=click.IntRange(2, 1024)),
    temperature=about("Sampling temperature; 0 is greedy.", default=0.8, type=NUMBER),
    seed=about("Seed of the random sampling.", default=0, type=click.IntRange(0, 2**63)),
)
@group("comparison", Comparison)
@click.option(
    "--out",
    type=PATH,
    default=Path("edgespec-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for the pictures and the figures.",
)
@click.option(
    "--fleet",
    is_flag=True,
    help="Kill one of three servers under Ray in mid-text instead, and show that it goes on.",
)
@group("robot", RobotDemo)
def demo(
    link: LinkShape,
    engines: Engines,
    params: SamplingParams,
    comparison: Comparison,
    out: Path,
    fleet: bool,
    robot: RobotDemo,
) -> int:
    """Compare the modes on this machine: the same text, at different speeds.

    Runs a server, an emulated link and a device. By default their times are those of the paper's devices (a Jetson and
    an A100), divided by five.
    """
    if robot.robot:
        return play_robot(robot, params.seed or 0, out)
    if robot.json or robot.pair:
        raise EdgespecError("--json and --pair belong to --robot: give it too.")
    if fleet:
        return 0 if play_fleet(params) else 1
    names = comparison.names()
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(link, engines.pacing(), params, comparison.draft_tokens, ("--dtype", engines.dtype))
    runs, figures = _play(setting, names, comparison.prompts)
    same = identical(runs)
    save_json(report(figures, same, setting, comparison.prompts), out / "demo.json")
    title = f"{_caption(setting)}; {hardware()['processor']}"
    timeline([run for run in runs if run.prompt == 0], out / "timeline.png", title)
    speeds(figures, out / "speed.png", title)
    click.echo(f"identical: {'yes' if same else 'no'}")
    click.echo(f"pictures and figures: {out}")
    return 0 if same else 1


def _play(setting: Setting, modes: list[str], prompt_count: int) -> tuple[list[Run], dict[str, Any]]:
    with spinner("loading the draft ..."):
        engine = load_draft(bundled_engine())
        tokenizer = Tokenizer.load(engine.tokenizer_path)
    runs: list[Run] = []
    figures: dict[str, Any] = dict.fromkeys(modes)
    caption = _caption(setting)
    with serving(setting) as address, Live(_table(figures, caption), console=Console(width=110)) as live:
        for run in play(address, engine, tokenizer, setting, bundled_prompts(prompt_count), modes):
            runs.append(run)
            own = [one for one in runs if one.mode == run.mode]
            prompts = {one.prompt for one in own}
            cloud = [one for one in runs if one.mode == "cloud" and one.prompt in prompts]
            figures[run.mode] = mode_figures(own, cloud)
            live.update(_table(figures, f"{caption}; {len(runs)} of {prompt_count * len(modes)} runs"))
    return runs, figures


def _table(figures: Mapping[str, Any], caption: str) -> Table:
    """A mode without runs yet shows dots."""
    rows = [[mode, *(_cells(one) if one else ["…"] * (len(COLUMNS) - 1))] for mode, one in figures.items()]
    caption += f"\n{TREES}" if "auto" in figures else ""
    return table(COLUMNS, rows, title="the same text, by mode", caption=caption)


def _cells(one: Mapping[str, Any]) -> list[str]:
    return [
        f"{one['tokens_per_s']:.2f}",
        speed(one) if one["speed_vs_cloud"] else "…",
        f"{one['tokens_per_round']:.2f}",
        f"{one['acceptance']:.0%}" if one["acceptance"] is not None else "–",
        f"{one['hints_hit']} of {one['hints_sent']}" if one["hints_sent"] else "–",
        f"{one['forwards_per_token']:.2f}",
        f"{one['bytes_per_token']:.0f}",
    ]


def _caption(setting: Setting) -> str:
    """Link and engines in words. Every picture says what is emulated."""
    pacing = setting.pacing
    engines = "engines at full speed"
    if pacing.draft_ms and pacing.verify_ms:
        engines = f"engines paced: draft {pacing.draft_ms:g} ms, forward {pacing.verify_ms:g} ms"
    return f"link emulated: {setting.link.rtt_ms:g} ms round trip; {engines}"
