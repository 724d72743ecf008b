"""`edgespec plan`: predict the speed of every mode for a given link, target and draft, without running a model.

The draft's and exits' guesses follow the given acceptance, or a trace of a real pair that `--record` wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import NUMBER, POSITIVE, about, group, option
from edgespec.cli.options import link_shape_options
from edgespec.cli.plan_picture import Found, draw
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.json_file import save_json
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.plan import Prediction, Situation, compare, sweep
from edgespec.sim.settings import NAMED
from edgespec.sim.trace import Trace

situation_options = group(
    "situation",
    Situation,
    **link_shape_options,
    forward_ms=about("Time of a target forward.", type=POSITIVE),
    draft_ms=about("Time of a draft run.", type=POSITIVE),
    acceptance=about("How often the draft's first choice is right, from 0 to 1.", type=NUMBER),
    forward_row_share=about("Cost of each extra row in a forward, relative to the first row.", type=NUMBER),
    draft_row_share=about("Cost of each extra row in a draft run, relative to the first row.", type=NUMBER),
    exit_cost=about("Cost of the early exits, relative to a forward.", type=NUMBER),
    forward_overhead_ms=about("Extra time around each forward.", type=NUMBER, default=0.3),
    draft_overhead_ms=about("Extra time around each draft run.", type=NUMBER, default=0.2),
    wake_up_ms=about(
        "Extra time per round trip until both sides notice a message.", type=NUMBER, default=0.2
    ),
)


@dataclass(frozen=True)
class Comparison:
    """What is simulated."""

    modes: str = option("Modes, separated by commas.", "cloud,sync,preempt,accept-all,predicted,auto")
    tokens: int = option("Tokens to simulate.", 400, type=click.IntRange(10, 100_000))
    sweep: tuple[str, ...] = option(
        "Vary one number, such as rtt_ms=0,20,40,80. Give it twice to vary two numbers.",
        (),
        multiple=True,
        metavar="NAME=V,V,...",
    )
    trace: Path | None = option("Replay the recorded trace of a pair of models instead of --acceptance.")

    @property
    def axes(self) -> dict[str, list[float]]:
        """The swept numbers' names and values. Raises EdgespecError."""
        axes = {}
        for text in self.sweep:
            name, _, values = text.partition("=")
            try:
                axes[name.replace("-", "_")] = [float(value) for value in values.split(",")]
            except ValueError:
                raise EdgespecError(
                    f"--sweep takes NAME=V,V,..., such as rtt_ms=0,20,40, not {text!r}."
                ) from None
        if len(self.sweep) > 2:
            raise EdgespecError("--sweep may be given twice at most: a table and a map have two axes.")
        return axes


@dataclass(frozen=True)
class Recording:
    """A trace to record."""

    record: Path | None = option("Record a trace of a pair of models to this file, and end. Needs torch.")
    target: str | None = option("Target to record.", show_default="the bundled one")
    draft: Path | None = option("Engine folder of the draft to record.", show_default="the bundled one")
    prompts: int = option("Number of prompts to record.", 16, type=click.IntRange(1, 1000))
    temperature: float = option("Sampling temperature to record at.", 0.0, type=NUMBER)


@dataclass(frozen=True)
class Output:
    """Files to write."""

    json: Path | None = option("Write the predictions to this file.")
    picture: Path | None = option("Draw the sweep to this PNG file.")


def _use_setting(context: click.Context, parameter: click.Parameter, name: str | None) -> None:
    if name is not None:
        context.default_map = NAMED[name]


@click.command()
@click.option(
    "--setting",
    type=click.Choice(list(NAMED)),
    is_eager=True,
    expose_value=False,
    callback=_use_setting,
    help="Start from a published link and pair of models; other options override it.",
)
@situation_options
@group("comparison", Comparison)
@group("recording", Recording)
@group("output", Output)
def plan(situation: Situation, comparison: Comparison, recording: Recording, output: Output) -> None:
    """Predict the tokens per second of every mode. All figures are simulated."""
    if recording.record is not None:
        return _record(recording, recording.record)
    if recording.target is not None or recording.draft is not None:
        raise EdgespecError(
            "--target and --draft name the pair that --record FILE records: give that as well."
        )
    trace = None if comparison.trace is None else Trace.load(comparison.trace)
    if trace is not None:
        situation = replace(situation, acceptance=trace.acceptance)
    axes = comparison.axes
    if output.picture is not None and not axes:
        raise EdgespecError("--picture draws a sweep: give --sweep as well.")
    found = _predicted(situation, axes, comparison, trace)
    _print(situation, list(axes), found)
    if output.picture is not None:
        draw(list(axes), found, output.picture)
    if output.json is not None:
        rows = {
            ",".join(f"{value:g}" for value in values): [asdict(one) for one in predictions]
            for values, predictions in found.items()
        }
        save_json({"simulated": True, "situation": asdict(situation), "predictions": rows}, output.json)
    return None


def _predicted(
    situation: Situation, axes: Mapping[str, Sequence[float]], comparison: Comparison, trace: Trace | None
) -> Found:
    """Every mode at every combination of the axes' values."""
    modes, tokens = [name.strip() for name in comparison.modes.split(",")], comparison.tokens
    if not axes:
        return {(): compare(situation, modes, tokens=tokens, trace=trace)}
    (name, values), *rest = axes.items()
    if not rest:
        swept = sweep(situation, name, values, modes, tokens=tokens, trace=trace)
        return {(value,): row for value, row in swept.items()}
    sweep(situation, name, [], modes, trace=trace)  # refuses an unknown name
    return {
        (value, *more): row
        for value in values
        for more, row in _predicted(
            replace(situation, **{name: value}), dict(rest), comparison, trace
        ).items()
    }


def _print(situation: Situation, axes: Sequence[str], found: Found) -> None:
    from rich.console import Console

    columns = (*axes, "mode", "block", "tokens/s", "× cloud", "forwards/token", "bytes/token")
    rows: list[list[str]] = []
    for values, predictions in found.items():
        rows += [[*(f"{value:g}" for value in values), *cells] for cells in _cells(predictions)]
        rows.append([])
    console = Console()
    console.print(table(columns, rows, title="simulated", caption=json.dumps(asdict(situation))))
    for values, predictions in found.items():
        one = max(predictions, key=lambda prediction: prediction.tokens_per_s)
        where = ", ".join(f"{name} {value:g}" for name, value in zip(axes, values, strict=True))
        block = f" with blocks of {one.draft_tokens}" if one.draft_tokens else ""
        best = f"best{' at ' + where if where else ''}: {one.mode}{block}, {one.tokens_per_s:.2f} tokens/s"
        console.print(best, highlight=False)


def _cells(predictions: Sequence[Prediction]) -> list[list[str]]:
    cloud = next((one.tokens_per_s for one in predictions if one.mode == "cloud"), None)
    return [
        [
            one.mode,
            str(one.draft_tokens or "–"),
            f"{one.tokens_per_s:.2f}",
            f"{one.tokens_per_s / cloud:.2f}" if cloud else "–",
            f"{one.forwards_per_token:.2f}",
            f"{one.bytes_per_token:.0f}",
        ]
        for one in predictions
    ]


def _record(recording: Recording, file: Path) -> None:
    with needs("server"):
        from edgespec.model.target import Target
        from edgespec.train.prompts import held_out_prompts
        from edgespec.train.recording import record

    if not file.parent.is_dir():
        raise EdgespecError(f"there is no folder {file.parent} to write the trace to: make it first.")
    engine = load_draft(recording.draft or bundled_engine())
    texts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), recording.prompts)
    target = Target.load(recording.target, threads=1)
    trace = record(target, engine, texts, temperature=recording.temperature, seed=1)
    trace.save(file)
    tokens = sum(len(one.tokens) for one in trace.texts)
    exits = ", ".join(f"{layer} in {share:.0%}" for layer, share in trace.exit_agreement.items())
    click.echo(
        f"{file}: {tokens} tokens of {trace.target} at temperature {recording.temperature:g}. The draft is right in "
        f"{trace.acceptance:.0%} of cases" + (f", the exit after layer {exits}." if exits else ".")
    )
