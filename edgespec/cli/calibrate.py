"""`edgespec calibrate`: fit a draft engine's calibration on a user's own prompts."""

from __future__ import annotations

from pathlib import Path

import click

from edgespec.cli.flags import PATH, group
from edgespec.cli.train import BUDGET, DISTILLING, recipe, target_option
from edgespec.train.run import Run

NAMES = ("data", "new_tokens", "measured", "device", "seed", "threads", "quiet")


@click.command()
@click.argument("engine", type=PATH, metavar="ENGINE_DIR")
@target_option
@group("run", Run, **{name: {**DISTILLING, **BUDGET}[name] for name in NAMES})
def calibrate(engine: Path, target: str, run: Run) -> None:
    """Fit the calibration of the draft engine in ENGINE_DIR on the target's answers to your prompts.

    The calibration says how likely a drafted token is right; the better it is, the better `auto` decides. It never
    changes a text.
    """
    for temperature, cell in recipe("engine_calibration", run).calibrate(engine, target, run).items():
        click.echo(
            f"T = {temperature}: the draft is right in {cell['rate']:.0%} of {cell['positions']} tokens; what the "
            f"calibration states is off by {cell['calibration_error']:.3f} on average"
        )
