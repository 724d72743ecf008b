"""`edgespec kernels build`: the Triton kernels as binaries, for servers without Triton's compiler; needs no GPU."""

from pathlib import Path

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH


@click.group()
def kernels() -> None:
    """CUDA kernels, built ahead of time."""


@kernels.command()
@click.option(
    "--archs",
    default="80;87;90",
    show_default=True,
    help="Compute capabilities of the GPUs, such as 87 for a Jetson Orin.",
)
@click.option(
    "--out", type=PATH, default=Path("edgespec-kernels"), show_default=True, help="The folder to write."
)
def build(archs: str, out: Path) -> None:
    """Compile every kernel for every architecture into a folder with a manifest."""
    from rich.console import Console
    from rich.progress import Progress

    with needs("server"):
        from edgespec.kernels import ahead
        from edgespec.kernels.variants import VARIANTS
    architectures = ahead.parse_architectures(archs)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(architectures) * len(VARIANTS))
        ahead.build(
            out, architectures, report=lambda what: progress.update(task, advance=1, description=what)
        )
    click.echo(f"edgespec: {len(VARIANTS)} kernels for {', '.join(map(str, architectures))} in {out}")
    click.echo(f"edgespec: a server finds them with EDGESPEC_KERNELS={out.resolve()}")
