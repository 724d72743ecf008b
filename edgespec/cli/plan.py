"""`edgespec plan`: predicts every mode on a link and engines that one types in, without running any model.

What draft and exits say comes from a typed-in acceptance, or from a trace of a pair (--trace) that --record made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgespec.cli.options import Number
from edgespec.core.errors import EdgespecError
from edgespec.sim.settings import NAMED

if TYPE_CHECKING:
    from edgespec.sim.plan import Prediction, Situation
    from edgespec.sim.trace import Trace

SHARE = Number()
MODES = "cloud,sync,preempt,accept-all,predicted,auto"


@click.command()
@click.option(
    "--setting", type=click.Choice(list(NAMED)), help="A published link and engines; flags override it."
)
@click.option("--rtt-ms", type=Number(), default=40.0, show_default=True)
@click.option(
    "--forward-ms", type=Number(above=True), default=28.0, show_default=True, help="A target forward."
)
@click.option(
    "--draft-ms", type=Number(above=True), default=6.0, show_default=True, help="A run of the draft."
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
@click.option(
    "--forward-overhead-ms",
    type=Number(),
    default=0.3,
    show_default=True,
    help="Around a forward (measured).",
)
@click.option(
    "--draft-overhead-ms", type=Number(), default=0.2, show_default=True, help="Around a run of the draft."
)
@click.option(
    "--wake-up-ms",
    type=Number(),
    default=0.2,
    show_default=True,
    help="Of a round trip, to notice what came.",
)
@click.option("--modes", default=MODES, show_default=True, help="Separated by commas.")
@click.option("--tokens", type=click.IntRange(10, 100_000), default=400, show_default=True, help="Simulated.")
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=V,V,...",
    help="One number at several values, such as rtt_ms=0,20,40,80; given twice: every pair of two.",
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
    setting: str | None,
    modes: str,
    tokens: int,
    sweeps: tuple[str, ...],
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
    from edgespec.sim.plan import Situation

    if record is not None:
        return _record(record, target, draft, prompts, temperature)
    if target is not None or draft is not None:
        raise EdgespecError(
            "--target and --draft name the pair that --record FILE records: give that as well."
        )
    trace = None
    if trace_file is not None:
        from edgespec.sim.trace import Trace

        trace = Trace.load(trace_file)
        numbers["acceptance"] = trace.acceptance
    for name, value in NAMED.get(setting or "", {}).items():
        if click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT:
            numbers[name] = value
    situation = Situation(**numbers)
    names = [name.strip() for name in modes.split(",")]
    axes = [_axis(one) for one in sweeps]
    if picture is not None and not axes:
        raise EdgespecError("--picture draws a sweep: give --sweep as well.")
    found = _predicted(situation, axes, names, tokens, trace)
    _print(situation, [name for name, _ in axes], found)
    if picture is not None:
        _draw([name for name, _ in axes], found, picture)
    if json_file is not None:
        from edgespec.core.json_file import save_json

        rows = {
            ",".join(f"{value:g}" for value in values): [asdict(one) for one in predictions]
            for values, predictions in found.items()
        }
        save_json({"simulated": True, "situation": asdict(situation), "predictions": rows}, json_file)


def _predicted(
    situation: Situation,
    axes: Sequence[tuple[str, list[float]]],
    modes: Sequence[str],
    tokens: int,
    trace: Trace | None,
) -> dict[tuple[float, ...], list[Prediction]]:
    """Every mode at every combination of the axes' values."""
    from edgespec.sim.plan import compare, sweep

    if len(axes) > 2:
        raise EdgespecError("--sweep may be given twice at most: a table and a map have two axes.")
    if not axes:
        return {(): compare(situation, modes, tokens=tokens, trace=trace)}
    (name, values), *rest = axes
    if not rest:
        swept = sweep(situation, name, values, modes, tokens=tokens, trace=trace)
        return {(value,): row for value, row in swept.items()}
    sweep(situation, name, [], modes, trace=trace)  # refuses a number that there is not
    return {
        (value, *more): row
        for value in values
        for more, row in _predicted(replace(situation, **{name: value}), rest, modes, tokens, trace).items()
    }


def _record(file: Path, target: str | None, draft: str | None, prompts: int, temperature: float) -> None:
    from edgespec.bench.prompts import held_out_prompts
    from edgespec.bench.recording import record
    from edgespec.core.tokenizer import Tokenizer
    from edgespec.engines.bundled import bundled_engine
    from edgespec.engines.draft_engine import load_draft
    from edgespec.model.target import Target

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


def _print(
    situation: Situation, axes: Sequence[str], found: dict[tuple[float, ...], list[Prediction]]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="simulated", caption=json.dumps(asdict(situation)))
    for column in (*axes, "mode", "block", "tokens/s", "× cloud", "forwards a token", "bytes a token"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    best = []
    for values, predictions in found.items():
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
            table.add_row(*(f"{value:g}" for value in values), *cells)
        table.add_section()
        best.append(_best(axes, values, predictions))
    console = Console()
    console.print(table)
    for line in best:
        console.print(line, highlight=False)


def _best(axes: Sequence[str], values: Sequence[float], predictions: Sequence[Prediction]) -> str:
    """Which mode is the fastest here, in words."""
    one = max(predictions, key=lambda prediction: prediction.tokens_per_s)
    where = ", ".join(f"{name} {value:g}" for name, value in zip(axes, values, strict=True))
    block = f" with blocks of {one.draft_tokens}" if one.draft_tokens else ""
    return f"best{' at ' + where if where else ''}: {one.mode}{block}, {one.tokens_per_s:.2f} tokens/s"


def _draw(axes: Sequence[str], found: dict[tuple[float, ...], list[Prediction]], picture: Path) -> None:
    from edgespec.cli.plan_picture import draw_heat_maps, draw_lines

    if len(axes) == 1:
        draw_lines(axes[0], {value: row for (value,), row in found.items()}, picture)
    else:
        draw_heat_maps((axes[0], axes[1]), {(x, y): row for (x, y), row in found.items()}, picture)
