"""`edgespec train`: a draft and exit heads for any target, and the bundled pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH, POSITIVE, about, group
from edgespec.train.run import Run

COUNT = click.IntRange(1)
out = click.option("--out", type=PATH, required=True, help="The folder to write.")
target_option = click.option(
    "--target", required=True, metavar="DIR|org/name", help="The target, as `edgespec serve` takes it."
)

BUDGET: dict[str, dict[str, Any]] = {
    "minutes": about("How long to train, measuring left out.", type=POSITIVE),
    "max_steps": about("End after this many steps at most.", type=COUNT),
    "seed": about("Seed of all randomness."),
    "threads": about("CPU threads.", show_default="torch decides", type=COUNT),
    "quiet": about("Show no progress."),
}
DISTILLING: dict[str, dict[str, Any]] = {
    "data": about(
        "Text, JSONL or parquet (`text`; `prompt`, `completion`; `messages`), a file or a folder. May be repeated.",
        multiple=True,
        required=True,
        type=PATH,
    ),
    "max_tokens": about("Tokens of the data to use.", type=COUNT),
    "self_generated": about(
        "Train on this many answers of the target's own to prompts of the data; 0: on the data as it is.",
        type=click.IntRange(0),
    ),
    "new_tokens": about("Tokens of an answer at most.", type=COUNT),
    "measured": about("Held-out prompts to measure and calibrate on.", type=click.IntRange(2)),
    "batch_tokens": about("Tokens of a forward.", type=COUNT),
    "window_tokens": about(
        "Tokens of the longest windows of text, which come last; the first ones are a quarter as long.",
        type=click.IntRange(8),
    ),
    "accumulate": about("Forwards of one update.", type=COUNT),
    "cache_mib": about("Hidden rows of the target to keep on disk, in MiB.", type=COUNT),
    "device": about("Where torch computes, such as cpu or cuda:0."),
    "dtype": about(
        "Type of the target's weights in training. auto: bfloat16 where the processor is faster in it, else float32.",
        type=click.Choice(["auto", "bfloat16", "float32", "float64"]),
    ),
}
PAIR = {"corpus": about("Folder of Python files.", show_default="Python's standard library"), **BUDGET}
distilling = group("run", Run, **DISTILLING, **BUDGET)


def recipe(name: str, run: Run) -> Any:
    """A module of edgespec.train, with torch set up."""
    with needs("train"):
        import importlib

        import torch
        from transformers.utils import logging

        module = importlib.import_module(f"edgespec.train.{name}")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    return module


@click.group()
def train() -> None:
    """Train a draft or early exits for a target. A run that was stopped goes on when its command is given again."""


@train.command()
@target_option
@out
@click.option(
    "--shape", default="medium", show_default=True, help="small, medium, wide, or LAYERSxWIDTH such as 3x256."
)
@click.option(
    "--init",
    default="layers",
    show_default=True,
    help="layers: begin with the target's own first layers; random; or the folder of a draft to train further.",
)
@distilling
def draft(target: str, out: Path, shape: str, init: str, run: Run) -> None:
    """Distil a draft from a target, and calibrate it."""
    found = recipe("recipe", run).make_draft(out, target, run, shape, init)
    _tell(out, found)


@train.command()
@target_option
@out
@click.option(
    "--layers",
    help="Layers to exit after, such as 8,12,0.5: numbers below 1 are shares of the depth.",
    show_default="0.25,0.33,0.5,0.67",
)
@click.option("--rank", type=COUNT, show_default="from the target's width", help="Rank of the adapters.")
@distilling
def exits(target: str, out: Path, layers: str | None, rank: int | None, run: Run) -> None:
    """Train a target's exit heads, and calibrate them."""
    found = recipe("recipe", run).make_exits(out, target, run, layers, rank)
    _tell(out, found)


@train.command()
@out
@group("run", Run, **PAIR)
def target(out: Path, run: Run) -> None:
    """Train the bundled pair's tokenizer and target."""
    recipe("pair", run).make_target(out, run)


@train.command()
@out
@group("run", Run, **PAIR)
def pair(out: Path, run: Run) -> None:
    """Train the bundled pair: target, draft and exits in 70 %, 20 % and 10 % of the time."""
    recipe("pair", run).make_pair(out, run)


@train.command()
@out
@group("run", Run, **BUDGET)
def robot(out: Path, run: Run) -> None:
    """Train models that drive a robot in simulated rooms: a target that sees, and a draft with and one without eyes."""
    recipe("robot.recipe", run).make_robot(out, run)


@train.command()
@click.argument("folder", type=PATH)
@group("run", Run, **PAIR)
def card(folder: Path, run: Run) -> None:
    """Measure the pair in FOLDER and write its figures.json and README.md."""
    recipe("card", run).write_card(folder, run)


def _tell(folder: Path, agreement: dict[str, dict[str, dict[str, Any]]]) -> None:
    for name, by_temperature in agreement.items():
        rates = ", ".join(f"{cell['rate']:.0%} at T = {t}" for t, cell in by_temperature.items())
        click.echo(f"{name}: right in {rates}")
    click.echo(f"{folder}: README.md has the figures.")
