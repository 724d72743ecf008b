"""`edgespec plan`: predicts every mode on a link and engines that one types in, without running any model.

What draft and exits say comes from a typed-in acceptance, or from a trace of a pair (--trace) that --record made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgespec.commands.options import Number
from edgespec.errors import EdgespecError

if TYPE_CHECKING:
    from edgespec.planning.plan import Prediction, Situation

SHARE = Number()
MODES = "cloud,sync,preempt,accept-all,predicted,auto"


@click.command()
@click.option("--rtt-ms", type=Number(), default=40.0, show_default=True)
@click.option(
    "--forward-ms", type=Number(above=True), default=28.0, show_default=True, help="A target forward."
)
@click.option(
    "--draft-ms", type=Number(above=True), default=6.0, show_default=True, help="A level of the draft."
)
@click.option(
    "--acceptance", type=SHARE, default=0.62, show_default=True, help="How often the draft is right."
)
@click.option("--jitter-ms", type=Number(), default=0.0)
@click.option("--mbps", type=Number(above=True))
@click.option("--forward-row-share", type=SHARE, default=0.0, help="What a further row adds to a forward.")
@click.option(
    "--draft-row-share", type=SHARE, default=0.1, show_default=True, help="And to a run of the draft."
)
@click.option("--exit-cost", type=SHARE, default=0.0, help="What exits add to a forward, as a share of it.")
@click.option("--modes", default=MODES, show_default=True, help="Separated by commas.")
@click.option("--tokens", type=click.IntRange(10, 100_000), default=400, show_default=True, help="Simulated.")
@click.option(
    "--sweep", metavar="NAME=V,V,...", help="One number at several values, such as rtt_ms=0,20,40,80."
)
@click.option(
    "--trace", "trace_file", type=click.Path(path_type=Path), metavar="FILE", help="Play a pair's trace."
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Record a trace of the pair on held-out prompts, and end.",
)
@click.option("--target", metavar="FOLDER", help="To record; the bundled pair's unless given.")
@click.option("--draft", metavar="ENGINE_DIR", help="To record; the bundled pair's unless given.")
@click.option("--prompts", type=click.IntRange(1, 1000), default=16, show_default=True, help="To record.")
@click.option("--temperature", type=Number(), default=0.0, show_default=True, help="To record at.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG", help="Of a sweep.")
def plan(
    modes: str,
    tokens: int,
    sweep: str | None,
    trace_file: Path | None,
    record: Path | None,
    target: str | None,
    draft: str | None,
    prompts: int,
    temperature: float,
    json_file: Path | None,
    picture: Path | None,
    **numbers: Any,
) -> None:
    """Predict tokens a second of every mode; all figures are simulated, and say so."""
    from edgespec.planning.plan import Situation, compare
    from edgespec.planning.plan import sweep as sweep_modes

    if record is not None:
        return _record(record, target, draft, prompts, temperature)
    if target is not None or draft is not None:
        raise EdgespecError(
            "--target and --draft name the pair that --record FILE records: give that as well."
        )
    trace = None
    if trace_file is not None:
        from edgespec.planning.trace import Trace

        trace = Trace.load(trace_file)
        numbers["acceptance"] = trace.acceptance
    situation = Situation(**numbers)
    names = [name.strip() for name in modes.split(",")]
    if sweep is None:
        if picture is not None:
            raise EdgespecError("--picture draws a sweep: give --sweep as well.")
        found = {"": compare(situation, names, tokens=tokens, trace=trace)}
        _print(situation, "", found)
    else:
        axis, values = _axis(sweep)
        found = {
            f"{value:g}": row
            for value, row in sweep_modes(situation, axis, values, names, tokens=tokens, trace=trace).items()
        }
        _print(situation, axis, found)
        if picture is not None:
            _draw(axis, found, picture)
    if json_file is not None:
        from edgespec.json_file import save_json

        rows = {value: [asdict(one) for one in predictions] for value, predictions in found.items()}
        save_json({"simulated": True, "situation": asdict(situation), "predictions": rows}, json_file)


def _record(file: Path, target: str | None, draft: str | None, prompts: int, temperature: float) -> None:
    from edgespec.bench.prompts import held_out_prompts
    from edgespec.bench.recording import record
    from edgespec.edge.draft import bundled_engine, load_draft
    from edgespec.edge.tokenizer import Tokenizer
    from edgespec.target.target import Target

    if not file.parent.is_dir():
        raise EdgespecError(f"there is no folder {file.parent} to write the trace to: make it first.")
    engine = load_draft(draft or bundled_engine())
    texts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), prompts)
    trace = record(Target.load(target, threads=1), engine, texts, temperature=temperature, seed=1)
    trace.save(file)
    said = sum(len(one.tokens) for one in trace.texts)
    exits = ", ".join(f"{layer} in {share:.0%}" for layer, share in trace.exit_agreement.items())
    click.echo(
        f"{file}: {said} tokens of {trace.target} at T = {temperature:g}; the draft is right in "
        f"{trace.acceptance:.0%}" + (f", the exits after layer {exits}." if exits else ".")
    )


def _axis(sweep: str) -> tuple[str, list[float]]:
    name, _, values = sweep.partition("=")
    try:
        return name.replace("-", "_"), [float(value) for value in values.split(",")]
    except ValueError:
        raise EdgespecError(f"--sweep takes NAME=V,V,..., such as rtt_ms=0,20,40, not {sweep!r}.") from None


def _print(situation: Situation, axis: str, found: dict[str, list[Prediction]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="simulated", caption=json.dumps(asdict(situation)))
    columns = [axis] if axis else []
    for column in (*columns, "mode", "block", "tokens/s", "× cloud", "forwards a token", "bytes a token"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for value, predictions in found.items():
        cloud = next((one.tokens_per_s for one in predictions if one.mode == "cloud"), None)
        for one in predictions:
            cells = [
                one.mode,
                str(one.draft_tokens or "–"),
                f"{one.tokens_per_s:.2f}",
                f"{one.tokens_per_s / cloud:.2f}" if cloud else "–",
                f"{one.forwards_per_token:.2f}",
                f"{one.bytes_per_token:.0f}",
            ]
            table.add_row(*([value] if axis else []), *cells)
        table.add_section()
    Console().print(table)


def _draw(axis: str, found: dict[str, list[Prediction]], picture: Path) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise EdgespecError("the picture needs matplotlib: pip install 'edgespec[demo]'.") from None
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    values = [float(value) for value in found]
    rows: Sequence[list[Prediction]] = list(found.values())
    for i, first in enumerate(rows[0]):
        axes.plot(values, [row[i].tokens_per_s for row in rows], marker="o", markersize=3, label=first.mode)
    axes.set_xlabel(axis)
    axes.set_ylabel("tokens a second (simulated)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
