"""`edgespec gpu-check`: does this GPU compute what a CPU does, and how fast is it? Takes some eight minutes."""

from pathlib import Path

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH
from edgespec.core.errors import EdgespecError


@click.command("gpu-check")
@click.option(
    "--device", default="cuda", show_default=True, help="cuda, cuda:1, ..., or cpu for a small dry run."
)
@click.option("--json", "file", type=PATH, help="Write what was found here, after every step.")
@click.option("--resume", is_flag=True, help="Leave out the steps that --json already holds.")
def gpu_check(device: str, file: Path | None, resume: bool) -> None:
    """Compare a GPU with the CPU, and measure forwards, kernels and hints on it."""
    with needs("server"):
        from edgespec.model.gpu_check.run import STEPS, run
        from edgespec.model.loading import choose_device

    failed = run(choose_device(device), file, resume, _print, STEPS)
    if failed:
        raise EdgespecError(f"{failed} of {len(STEPS)} steps failed.")


def _print(step: str, row: object) -> None:
    assert isinstance(row, dict)
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}
    said = ", ".join(f"{name} {value}" for name, value in shown.items())
    click.echo(f"{step:11} {said}")
