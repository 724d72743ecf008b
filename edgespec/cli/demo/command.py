"""`edgespec demo`: what speculation gains on an emulated link, shown as a live table, pictures and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.options import PACE, Number
from edgespec.core.errors import EdgespecError

if TYPE_CHECKING:
    from edgespec.cli.demo.figures import Run
    from edgespec.cli.demo.runs import Setting

DEFAULT_MODES = "cloud,sync,preempt,auto"


@click.command()
@click.option(
    "--rtt-ms", type=Number(), default=19.2, show_default=True, help="Round trip of the emulated link."
)
@click.option("--jitter-ms", type=Number(), default=0.0, help="The round trip varies by up to this much.")
@click.option("--mbps", type=Number(above=True), help="Megabits a second each way; unlimited if not given.")
@click.option(
    "--draft-pace-ms", type=PACE, default=15.05, show_default=True, help="Of each run of the draft."
)
@click.option("--verify-pace-ms", type=PACE, default=104.4, show_default=True, help="Of each target forward.")
@click.option("--unpaced", is_flag=True, help="Run both engines as fast as this machine can.")
@click.option(
    "--draft-tokens", type=click.IntRange(1, 64), default=4, show_default=True, help="Length of a block."
)
@click.option("--max-new-tokens", type=click.IntRange(2, 1024), default=48, show_default=True)
@click.option("--temperature", type=Number(), default=0.8, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63), default=0, show_default=True)
@click.option("--prompts", "prompt_count", type=click.IntRange(1, 100), default=4, show_default=True)
@click.option(
    "--modes", default=DEFAULT_MODES, show_default=True, help="Separated by commas; cloud is always played."
)
@click.option("--dtype", default="auto", help="Of the target, as for `edgespec serve`.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("edgespec-demo"), show_default=True, metavar="DIR",
    help="Folder for the pictures and the figures.",
)  # fmt: skip
def demo(modes: str, prompt_count: int, json_file: Path | None, out: Path, **flags: Any) -> int:
    """Server, link and edge on this machine: the same text, faster.

    By default the engines are paced and the link emulated in the proportions of the paper (a Jetson and an A100), five
    times as fast.
    """
    names = _modes(modes)
    for folder in (out, *([json_file.parent] if json_file else [])):
        folder.mkdir(parents=True, exist_ok=True)
    setting = _setting(flags)
    runs, figures = _play(setting, names, prompt_count)
    return _conclude(setting, runs, figures, prompt_count, json_file, out)


def _modes(modes: str) -> list[str]:
    from edgespec.drafting.modes import policy

    names = list(dict.fromkeys(["cloud", *(name.strip() for name in modes.split(","))]))
    for name in names:
        policy(name)
    return names


def _setting(flags: dict[str, Any]) -> Setting:
    from edgespec.cli.demo.figures import Pacing
    from edgespec.cli.demo.runs import Setting
    from edgespec.core.params import SamplingParams
    from edgespec.sim.emulated_link import LinkShape

    paced = not flags["unpaced"]
    return Setting(
        link=LinkShape(flags["rtt_ms"], flags["jitter_ms"], flags["mbps"]),
        pacing=Pacing(flags["draft_pace_ms"] if paced else None, flags["verify_pace_ms"] if paced else None),
        params=SamplingParams(
            temperature=flags["temperature"], seed=flags["seed"], max_new_tokens=flags["max_new_tokens"]
        ),
        draft_tokens=flags["draft_tokens"],
        server_options=("--dtype", flags["dtype"]),
    )


def _play(setting: Setting, modes: list[str], prompt_count: int) -> tuple[list[Run], dict[str, Any]]:
    from rich.console import Console
    from rich.live import Live

    from edgespec.cli.demo.figures import mode_figures
    from edgespec.cli.demo.runs import bundled_prompts, play, serving
    from edgespec.cli.demo.table import table
    from edgespec.core.child import spinner
    from edgespec.core.tokenizer import Tokenizer
    from edgespec.engines.bundled import bundled_engine
    from edgespec.engines.draft_engine import load_draft

    with spinner("loading the draft ..."):
        engine = load_draft(bundled_engine())
        tokenizer = Tokenizer.load(engine.tokenizer_path)
    runs: list[Run] = []
    figures: dict[str, Any] = {mode: None for mode in modes}
    with (
        serving(setting) as address,
        Live(table(figures, _caption(setting)), console=Console(width=110)) as live,
    ):
        for run in play(address, engine, tokenizer, setting, bundled_prompts(prompt_count), modes):
            runs.append(run)
            for mode in modes:
                own = [one for one in runs if one.mode == mode]
                played = {one.prompt for one in own}
                cloud = [one for one in runs if one.mode == "cloud" and one.prompt in played]
                figures[mode] = mode_figures(own, cloud) if own else None
            live.update(
                table(figures, f"{_caption(setting)}; {len(runs)} of {prompt_count * len(modes)} runs")
            )
    return runs, figures


def _conclude(
    setting: Setting,
    runs: list[Run],
    figures: dict[str, Any],
    prompt_count: int,
    json_file: Path | None,
    out: Path,
) -> int:
    from edgespec.cli.demo.figures import identical
    from edgespec.cli.demo.report import hardware, report
    from edgespec.core.json_file import save_json

    same = identical(runs)
    content = report(figures, same, setting, prompt_count)
    for file in [out / "demo.json", *([json_file] if json_file else [])]:
        save_json(content, file)
    try:
        from edgespec.cli.demo.pictures import speeds, timeline
    except ImportError as error:
        raise EdgespecError(f"the pictures need {error.name}: pip install 'edgespec[demo]'.") from None
    title = f"{_caption(setting)}; {hardware()['processor']}"
    timeline([run for run in runs if run.prompt == 0], out / "timeline.png", title)
    speeds(figures, out / "speed.png", title)
    click.echo(f"identical: {'yes' if same else 'no'}")
    click.echo(f"pictures and figures: {out}")
    return 0 if same else 1


def _caption(setting: Setting) -> str:
    """The link and the engines in words; paced and emulated are said wherever they show."""
    pacing = setting.pacing
    paced = f"engines paced: draft {pacing.draft_ms:g} ms, forward {pacing.verify_ms:g} ms"
    return f"link emulated: {setting.link.rtt_ms:g} ms round trip; " + (
        paced if pacing.draft_ms and pacing.verify_ms else "engines at full speed"
    )
