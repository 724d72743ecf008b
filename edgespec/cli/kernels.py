"""`edgespec kernels build`: the Triton kernels as binaries, for devices without Triton; needs no GPU.
`edgespec kernels check`: do they say on this machine's GPU what they say on a CPU, and how fast?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.group()
def kernels() -> None:
    """CUDA kernels: built ahead of time, or checked on a GPU."""


@kernels.command()
@click.option("--archs", default="80;87;90", show_default=True, help="Compute capabilities; Orin is 87.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("edgespec-kernels"),
    show_default=True,
)
def build(archs: str, out: Path) -> None:
    """Compile every kernel for every architecture into a folder with a manifest."""
    from rich.console import Console
    from rich.progress import Progress

    from edgespec.core.errors import EdgespecError

    try:
        from edgespec.kernels import ahead
        from edgespec.kernels.variants import VARIANTS
    except ModuleNotFoundError as error:
        raise EdgespecError(f"building kernels needs {error.name}: pip install 'edgespec[server]'.") from None
    architectures = ahead.parse_architectures(archs)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(architectures) * len(VARIANTS))
        ahead.build(
            out, architectures, report=lambda what: progress.update(task, advance=1, description=what)
        )
    click.echo(f"edgespec: {len(VARIANTS)} kernels for {', '.join(map(str, architectures))} in {out}")


@kernels.command()
@click.option("--times/--no-times", default=True, help="Measure too, beside torch and the memory's speed.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the times there."
)
def check(times: bool, json_file: Path | None) -> None:
    """Compare the CUDA path with the CPU's on this machine's GPU: kernels, captured forwards, hints in host memory."""
    from edgespec.core.errors import EdgespecError

    try:
        from edgespec.bench import exit_cost, gpu_check, gpu_times, hint_delay
    except ModuleNotFoundError as error:
        raise EdgespecError(f"checking kernels needs {error.name}: pip install 'edgespec[server]'.") from None
    from edgespec.core.json_file import save_json

    place = gpu_check.Place.gpu()
    for one in gpu_check.all_checks(place):
        click.echo(f"edgespec: {one()}")
    if not times:
        return
    delay_us = hint_delay.hint_delay_us(place.device, place.backend)
    click.echo(f"edgespec: a hint is with an edge on this machine {delay_us:.0f} us after its exit has ended")
    rows = []
    for row in gpu_times.measure([(32000, 4096), (128256, 4096)], (1, 4, 8, 32), ("bfloat16", "float32")):
        rows.append(row.to_json())
        compiled = "" if row.compiled_ms is None else f", {row.compiled_ms / row.ms:.2f}x compiled"
        click.echo(
            f"{row.kernel} {row.dtype} V={row.vocab} R={row.rows}: {row.ms:.4f} ms, {row.eager_ms / row.ms:.2f}x eager"
            f"{compiled}, {row.floor_ms / row.ms:.0%} of the floor"
        )
    figures: dict[str, Any] = {"hint_delay_us": delay_us, "rows": rows}
    try:
        plain_ms, hinted_ms = exit_cost.forward_ms(exit_cost.large_target())
        figures["forward_ms"], figures["forward_with_exits_ms"] = plain_ms, hinted_ms
        share = hinted_ms / plain_ms - 1
        click.echo(
            f"edgespec: three exits add {share:.1%} to {plain_ms:.2f} ms of a forward of Llama-2-7B's shape"
        )
    except EdgespecError as error:
        click.echo(f"edgespec: {error}")
    if json_file is not None:
        save_json(figures, json_file)
