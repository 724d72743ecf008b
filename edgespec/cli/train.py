"""`edgespec train`: the recipe's stages as commands, and `pair` for all of them in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(path_type=Path)


@click.group()
def train() -> None:
    """Train a target, a draft and exit heads; every stage takes a budget in minutes."""


def _shared(command: Any) -> Any:
    """The options of every stage."""
    options = [
        click.option(
            "--corpus", type=_FOLDER, help="A folder of Python files (default: the standard library)."
        ),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--threads", type=click.IntRange(min=1), help="CPU threads (default: torch's own choice)."
        ),
        click.option(
            "--max-steps", type=click.IntRange(min=1), help="End a stage after this many steps at most."
        ),
        click.option("--quiet", is_flag=True, help="Show no progress."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _run(corpus: Path | None, seed: int, threads: int | None, max_steps: int | None, quiet: bool) -> Any:
    import torch
    from transformers.utils import logging

    from edgespec.train.measure import Sample
    from edgespec.train.recipe import Run

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    if threads is not None:
        torch.set_num_threads(threads)
    return Run(corpus, seed, max_steps, quiet, Sample(seed=seed))


@train.command()
@click.option("--out", type=_FOLDER, required=True, help="The folder to write.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=42.0, show_default=True)
@_shared
def target(out: Path, minutes: float, **shared: Any) -> None:
    """Train the tokenizer and the target."""
    from edgespec.train.recipe import make_target

    make_target(out, minutes, _run(**shared))


@train.command()
@click.option("--target", type=_FOLDER, required=True, help="The target's folder.")
@click.option("--out", type=_FOLDER, required=True, help="The folder to write.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=12.0, show_default=True)
@_shared
def draft(target: Path, out: Path, minutes: float, **shared: Any) -> None:
    """Distil a draft from a target, and calibrate it."""
    from edgespec.train.recipe import make_draft

    make_draft(out, target, minutes, _run(**shared))


@train.command()
@click.option("--target", type=_FOLDER, required=True, help="The target's folder.")
@click.option("--out", type=_FOLDER, required=True, help="The folder to write.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=6.0, show_default=True)
@_shared
def exits(target: Path, out: Path, minutes: float, **shared: Any) -> None:
    """Train a target's exit heads, and calibrate them."""
    from edgespec.train.recipe import make_exits

    make_exits(out, target, minutes, _run(**shared))


@train.command()
@click.option("--out", type=_FOLDER, required=True, help="The folder to write.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True)
@_shared
def pair(out: Path, minutes: float, **shared: Any) -> None:
    """Train a whole pair: 70 % of the minutes for the target, 20 % for the draft, 10 % for the exits."""
    from edgespec.train.recipe import make_pair

    make_pair(out, minutes, _run(**shared))


@train.command()
@click.argument("folder", type=_FOLDER)
@_shared
def card(folder: Path, **shared: Any) -> None:
    """Measure the pair in FOLDER and write its figures.json and README.md."""
    from edgespec.train.card import write_card

    write_card(folder, _run(**shared))


if __name__ == "__main__":
    train()
