"""`edgespec train`: the stages of training as commands, and `pair` for all of them in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH, Function, group, option

if TYPE_CHECKING:
    from edgespec.train.recipe import Run

out = click.option("--out", type=PATH, required=True, help="The folder to write.")
target_folder = click.option("--target", type=PATH, required=True, help="The target's folder.")


def minutes(default: float) -> Callable[[Function], Function]:
    positive = click.FloatRange(min=0, min_open=True)
    return click.option(
        "--minutes", type=positive, default=default, show_default=True, help="How long to train."
    )


@dataclass(frozen=True)
class Shared:
    """Options of every stage."""

    corpus: Path | None = option(
        "A folder of Python files to train on.", show_default="Python's standard library"
    )
    seed: int = option("Seed of all randomness.", 0)
    threads: int | None = option("CPU threads.", show_default="torch decides", type=click.IntRange(1))
    max_steps: int | None = option("End each stage after this many steps at most.", type=click.IntRange(1))
    quiet: bool = option("Show no progress.", False)

    def load(self) -> tuple[ModuleType, Run]:
        """The stages (edgespec.train.recipe), and what they share."""
        with needs("server"):
            import torch
            from transformers.utils import logging

            from edgespec.train import recipe
            from edgespec.train.measure import Sample

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        run = recipe.Run(self.corpus, self.seed, self.max_steps, self.quiet, Sample(seed=self.seed))
        return recipe, run


shared = group("shared", Shared)


@click.group()
def train() -> None:
    """Train a target, a draft and exit heads, each within a given time."""


@train.command()
@out
@minutes(42.0)
@shared
def target(out: Path, minutes: float, shared: Shared) -> None:
    """Train the tokenizer and the target."""
    recipe, run = shared.load()
    recipe.make_target(out, minutes, run)


@train.command()
@target_folder
@out
@minutes(12.0)
@shared
def draft(target: Path, out: Path, minutes: float, shared: Shared) -> None:
    """Distil a draft from a target, and calibrate it."""
    recipe, run = shared.load()
    recipe.make_draft(out, target, minutes, run)


@train.command()
@target_folder
@out
@minutes(6.0)
@shared
def exits(target: Path, out: Path, minutes: float, shared: Shared) -> None:
    """Train a target's exit heads, and calibrate them."""
    recipe, run = shared.load()
    recipe.make_exits(out, target, minutes, run)


@train.command()
@out
@minutes(60.0)
@shared
def pair(out: Path, minutes: float, shared: Shared) -> None:
    """Train a target, its draft and its exit heads: 70 %, 20 % and 10 % of the time."""
    recipe, run = shared.load()
    recipe.make_pair(out, minutes, run)


@train.command()
@click.argument("folder", type=PATH)
@shared
def card(folder: Path, shared: Shared) -> None:
    """Measure the pair in FOLDER and write its figures.json and README.md."""
    _, run = shared.load()
    from edgespec.train.card import write_card

    write_card(folder, run)
