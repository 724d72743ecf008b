"""`edgespec plan`: predict the speed of every mode for a given link, target and draft, without running a model.

The draft's and exits' guesses follow the given acceptance, or a trace of a real pair that `--record` wrote.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from edgespec.cli.extras import needs
from edgespec.cli.flags import NUMBER, PATH, POSITIVE, about, group, option
from edgespec.cli.options import link_shape_options
from edgespec.cli.plan_fleet import MODES, demand_options, show_fleet
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.fleet import Demand
from edgespec.sim.plan import NAMED, Prediction, Situation, compare
from edgespec.sim.trace import Trace

situation_options = group(
    "situation",
    Situation,
    **link_shape_options,
    forward_ms=about("Time of a target forward.", type=POSITIVE),
    draft_ms=about("Time of a draft run.", type=POSITIVE),
    acceptance=about("How often the draft's first choice is right, from 0 to 1.", type=NUMBER),
    forward_row_share=about("Cost of each extra row in a forward, relative to the first row.", type=NUMBER),
    free_rows=about("Rows that a target forward computes in the time of one.", type=POSITIVE),
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
        "Vary one number, such as rtt_ms=0,20,40,80. Give it again to vary others with it.",
        (),
        multiple=True,
        metavar="NAME=V,V,...",
    )
    trace: Path | None = option("Replay the recorded trace of a pair of models instead of --acceptance.")

    def fleet_modes(self) -> Sequence[str]:
        """Raises EdgespecError for what a fleet's plan does not have."""
        if self.sweep or self.trace:
            raise EdgespecError("--fleet takes neither --sweep nor --trace: leave them out.")
        return MODES if self.modes == Comparison.modes else [name.strip() for name in self.modes.split(",")]

    def axes(self) -> dict[str, list[float]]:
        """The swept numbers' names and values. Raises EdgespecError."""
        axes = {}
        for text in self.sweep:
            name, _, values = text.replace("-", "_").partition("=")
            if name not in Situation.__dataclass_fields__:
                names = ", ".join(Situation.__dataclass_fields__)
                raise EdgespecError(f"there is no {name!r} to sweep: choose one of {names}.")
            if self.trace is not None and name == "acceptance":
                raise EdgespecError("a trace has its own acceptance: sweep another number, or leave it out.")
            try:
                axes[name] = [float(value) for value in values.split(",")]
            except ValueError:
                raise EdgespecError(
                    f"--sweep takes NAME=V,V,..., such as rtt_ms=0,20,40, not {text!r}."
                ) from None
        return axes


@dataclass(frozen=True)
class Recording:
    """A trace to record."""

    record: Path | None = option("Record a trace of a pair of models to this file, and end. Needs torch.")
    target: str | None = option("Target to record.", show_default="the bundled one")
    draft: Path | None = option("Engine folder of the draft to record.", show_default="the bundled one")
    prompts: int = option("Number of prompts to record.", 16, type=click.IntRange(1, 1000))
    temperature: float = option("Sampling temperature to record at.", 0.0, type=NUMBER)


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
@click.option(
    "--fleet", is_flag=True, help="Say how many servers a fleet of devices needs, and what its tokens cost."
)
@demand_options
@click.option("--json", "file", type=PATH, help="Write the predictions to this file.")
def plan(
    situation: Situation,
    comparison: Comparison,
    recording: Recording,
    fleet: bool,
    demand: Demand,
    file: Path | None,
) -> None:
    """Predict the tokens per second of every mode. All figures are simulated."""
    if fleet:
        return show_fleet(situation, demand, comparison.fleet_modes(), file)
    if recording.record is not None:
        return _record(recording, recording.record)
    if recording.target is not None or recording.draft is not None:
        raise EdgespecError(
            "--target and --draft name the pair that --record FILE records: give that as well."
        )
    trace = None if comparison.trace is None else Trace.load(comparison.trace)
    if trace is not None:
        situation = replace(situation, acceptance=trace.acceptance)
    axes = comparison.axes()
    modes = [name.strip() for name in comparison.modes.split(",")]
    found = {}
    for values in itertools.product(*axes.values()):
        swept = replace(situation, **dict(zip(axes, values, strict=True)))
        found[values] = compare(swept, modes, tokens=comparison.tokens, trace=trace)
    _print(situation, list(axes), found)
    if file is not None:
        rows = {
            ",".join(f"{value:g}" for value in values): [asdict(one) for one in predictions]
            for values, predictions in found.items()
        }
        save_json({"simulated": True, "situation": asdict(situation), "predictions": rows}, file)
    return None


def _print(
    situation: Situation, axes: Sequence[str], found: dict[tuple[float, ...], list[Prediction]]
) -> None:
    columns = (*axes, "mode", "block", "tokens/s", "× cloud", "forwards/token", "bytes/token")
    rows: list[list[str]] = []
    best = []
    for values, predictions in found.items():
        rows += [[*(f"{value:g}" for value in values), *cells] for cells in _cells(predictions)]
        rows.append([])
        one = max(predictions, key=lambda prediction: prediction.tokens_per_s)
        where = ", ".join(f"{name} {value:g}" for name, value in zip(axes, values, strict=True))
        block = f" with blocks of {one.draft_tokens}" if one.draft_tokens else ""
        best.append(
            f"best{' at ' + where if where else ''}: {one.mode}{block}, {one.tokens_per_s:.2f} tokens/s"
        )
    Console().print(table(columns, rows, title="simulated", caption=json.dumps(asdict(situation))))
    click.echo("\n".join(best))


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
