"""`edgespec reproduce paper`: the scheme of arXiv 2505.21594 and its ablations, on the bundled pair or on your own.

The paper's devices are paced: a draft run and a forward take the times of its Jetson and its A100, divided by a factor.
What is compared is the scheme, not the hardware; the texts of all rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from edgespec.cli.demo.figures import Pacing, Run, identical, mode_figures
from edgespec.cli.demo.report import hardware, versions
from edgespec.cli.demo.runs import Setting, bundled_prompts, play, serving
from edgespec.cli.flags import NUMBER, POSITIVE, group, option
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.emulated_link import LinkShape
from edgespec.sim.plan import NAMED

TIMES = NAMED["paper-jetson"]
"""Of the paper's Jetson, A100 and link: a draft token, a verification, a round trip."""

PAPER = (
    "The paper (Vicuna-68M, Llama-2-7B): synchronous speculation 1.34 times cloud decoding on average, early exits "
    "1.04 to 1.11 times that. Its models, prompts and link are not these, so compare how rows relate, not their values."
)
COLUMNS = ("scheme", "block", "tokens/s", "x cloud", "acceptance", "tokens/round", "correct hints")


@dataclass(frozen=True)
class Experiment:
    """What is run."""

    target: str | None = option("Folder or Hugging Face id of the target.", show_default="the bundled target")
    draft: Path | None = option("Engine folder of its draft.", show_default="the bundled draft")
    exits: str = option("Folder of the target's exit heads; auto: `exits` in its folder.", "auto")
    blocks: str = option("Block lengths (the paper's gamma), separated by commas.", "2,4,6,8")
    prompts: int = option("Number of prompts.", 4, type=click.IntRange(1, 100))
    max_new_tokens: int = option("Tokens of each text.", 48, type=click.IntRange(2, 1024))
    temperature: float = option("Sampling temperature.", 0.8, type=NUMBER)
    divide: float = option("The paper's times are divided by this.", 5.0, type=POSITIVE)
    json: Path | None = option("Write the results to this file.")

    def lengths(self) -> list[int]:
        """Raises EdgespecError."""
        try:
            lengths = [int(one) for one in self.blocks.split(",")]
        except ValueError:
            lengths = []
        if not lengths or not all(1 <= one <= 64 for one in lengths):
            raise EdgespecError(f"--blocks takes lengths from 1 to 64 such as 2,4,6,8, not {self.blocks!r}.")
        return lengths

    def setting(self) -> Setting:
        pacing = Pacing(TIMES["draft_ms"] / self.divide, TIMES["forward_ms"] / self.divide)
        params = SamplingParams(temperature=self.temperature, max_new_tokens=self.max_new_tokens, seed=0)
        own = () if self.target is None else ("--target", self.target)
        return Setting(
            LinkShape(TIMES["rtt_ms"] / self.divide),
            pacing,
            params,
            server_options=(*own, "--exits", self.exits),
        )


@click.group()
def reproduce() -> None:
    """Run published experiments on this machine."""


@reproduce.command()
@group("experiment", Experiment)
@click.pass_context
def paper(context: click.Context, experiment: Experiment) -> None:
    """Run the scheme of "Fast and Cost-effective Speculative Edge-Cloud Decoding with Early Exits", and its ablations.

    Rows: cloud decoding; drafting that waits for each verdict (`sync`); the paper's drafting behind early exits
    (`preempt`), each at several block lengths; and edgespec's own (`auto`). Link and engines are paced at the paper's
    times, divided by --divide.
    """
    lengths, setting = experiment.lengths(), experiment.setting()
    if experiment.target is not None and experiment.draft is None:
        raise EdgespecError("--target needs its draft: give --draft ENGINE_DIR.")
    schemes = [
        ("cloud", 0),
        *((mode, length) for mode in ("sync", "preempt") for length in lengths),
        ("auto", 0),
    ]
    runs = _play(experiment, setting, schemes)
    cloud = runs["cloud", 0]
    rows = [
        {"scheme": mode, "block": length or None, **mode_figures(own, cloud)}
        for (mode, length), own in runs.items()
    ]
    same = identical([run for own in runs.values() for run in own])
    if experiment.json is not None:
        found = {"rows": rows, "identical": same, "divided_by": experiment.divide, "link": "emulated"}
        save_json(
            {**found, "engines": "paced", "hardware": hardware(), "versions": versions()}, experiment.json
        )
    title = f"engines paced and link emulated at the paper's times / {experiment.divide:g}"
    Console(width=110).print(table(COLUMNS, map(_cells, rows), title=title, text=("scheme",)))
    click.echo(PAPER)
    click.echo(f"identical: {'yes' if same else 'no'}")
    context.exit(0 if same else 1)


def _play(
    experiment: Experiment, setting: Setting, schemes: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[Run]]:
    """The runs of each scheme; all on one server and link."""
    engine = load_draft(experiment.draft or bundled_engine())
    tokenizer = Tokenizer.load(engine.tokenizer_path)
    prompts = bundled_prompts(experiment.prompts)
    runs: dict[tuple[str, int], list[Run]] = {}
    with serving(setting) as address:
        for mode, length in schemes:
            chosen = replace(setting, draft_tokens=length or 4)
            runs[mode, length] = list(play(address, engine, tokenizer, chosen, prompts, [mode]))
            click.echo(f"{mode}{f', blocks of {length}' if length else ''}: done", err=True)
    return runs


def _cells(row: dict[str, Any]) -> list[str]:
    hints = f"{row['hints_hit']} of {row['hints_sent']}" if row["hints_sent"] else "-"
    void = " (void)" if row["void"] else ""
    return [
        row["scheme"],
        str(row["block"] or "-"),
        f"{row['tokens_per_s']:.2f}",
        f"{row['speed_vs_cloud']:.2f}{void}",
        "-" if row["acceptance"] is None else f"{row['acceptance']:.2f}",
        f"{row['tokens_per_round']:.2f}",
        hints,
    ]
