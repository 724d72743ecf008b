"""`edgespec kernels`: the Triton kernels as binaries, what they take of a GPU and what they cost; needs no GPU."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError

if TYPE_CHECKING:
    from rich.table import Table

    from edgespec.kernels.forward_costs import Shape


@click.group()
def kernels() -> None:
    """CUDA kernels: built ahead of time, and looked at."""


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
        from edgespec.kernels.variants import VARIANTS, for_architectures
    architectures = ahead.parse_architectures(archs)
    count = len(for_architectures(VARIANTS, architectures))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count)
        ahead.build(
            out, architectures, report=lambda what: progress.update(task, advance=1, description=what)
        )
    click.echo(f"edgespec: {count} kernels for {', '.join(map(str, architectures))} in {out}")
    click.echo(f"edgespec: a server finds them with EDGESPEC_KERNELS={out.resolve()}")


@kernels.command()
@click.option(
    "--archs", default="80;86;87;89;90", show_default=True, help="Compute capabilities of the GPUs."
)
@click.option("--only", default="", help="Kernels whose name begins so.")
def budgets(archs: str, only: str) -> None:
    """Compile the kernels, and say what breaks a budget: spills, shared memory, loads of less than 16 bytes."""
    with needs("server"):
        from edgespec.kernels import ahead
        from edgespec.kernels.budgets import SHARED_BYTES, Resources
        from edgespec.kernels.variants import VARIANTS, for_architectures
    architectures = ahead.parse_architectures(archs)
    if unknown := sorted(set(architectures) - set(SHARED_BYTES)):
        raise EdgespecError(f"there are no budgets for {unknown}: give some of {sorted(SHARED_BYTES)}.")
    broken = 0
    click.echo(
        "kernel                          arch  registers  spills  shared  16-byte loads  blocks at once"
    )
    chosen = [one for one in VARIANTS if f"{one.kernel} {one.name}".startswith(only)]
    if not chosen:
        raise EdgespecError(f"no kernel's name begins with {only!r}: leave --only out to see them.")
    pairs = for_architectures(chosen, architectures)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        for one in processes.map(Resources.of, *zip(*pairs, strict=True)):
            name = f"{one.variant.kernel} {one.variant.name}"
            click.echo(
                f"{name:31} {one.architecture:>5} {one.registers:>10} {one.spilled_bytes:>7} "
                f"{one.shared_bytes:>7} {one.wide_loads:>14} {one.blocks:>15}"
            )
            for sentence in one.broken():
                broken += 1
                click.echo(f"  {sentence}")
    if broken:
        raise EdgespecError(f"{broken} budgets are broken.")


@kernels.command()
@click.option("--target", default=None, help="A model's folder, for its shape.", show_default="Llama-2-7B")
@click.option("--rows", default=8, show_default=True, help="Rows of a forward.", type=click.IntRange(1, 64))
@click.option(
    "--slots",
    default="256;2048;8192",
    show_default=True,
    help="Slots that the rows see, separated by semicolons.",
)
@click.option(
    "--kv-dtype",
    default="auto",
    show_default=True,
    help="Type of keys and values: auto is 16 bits, fp8 8.",
    type=click.Choice(["auto", "fp8"]),
)
def costs(target: str | None, rows: int, slots: str, kv_dtype: str) -> None:
    """Count what a forward, an exit and a verification cost on some GPUs: a model by the memory's speed, no
    measurement. Ends with an error where Llama-2-7B on an H100 is above a limit."""
    from rich.console import Console

    from edgespec.kernels.cost_limits import limits

    shape, lengths, screen = _shape(target), _lengths(slots), Console(width=120)
    title = f"{shape.name}, {rows} rows, 16 bits: counted, not measured"
    screen.print(_kernel_costs(shape, rows, title))
    screen.print(_forward_costs(shape, rows, lengths, title, 1 if kv_dtype == "fp8" else 2))
    found = list(limits())
    shown = table(
        ["what", "counted", "target", "unit", "missed by"],
        [
            (
                one.what, f"{one.counted:.3g}", f"{one.target:.3g}", one.unit,
                f"{one.missed_by:.1%}" if one.missed_by else "",
            )
            for one in found
        ],
        title="targets of Llama-2-7B, 8 rows, H100 SXM: counted, not measured",
        text=("what", "unit"),
    )  # fmt: skip
    screen.print(shown)
    if broken := [one.what for one in found if not one.holds]:
        raise EdgespecError(f"these cost more than they may: {', '.join(broken)}.")


def _kernel_costs(shape: Shape, rows: int, title: str) -> Table:
    from edgespec.kernels import costs as counted

    parts = (
        (gpu, one) for gpu in counted.GPUS for one in counted.costs(gpu, rows, shape.vocabulary, shape.width)
    )
    return table(
        ["GPU", "what", "launches", "passes", "MB read", "idle", "floor, us", "expected, us"],
        [
            (
                gpu.name, one.what, one.launches, one.passes, f"{one.read_bytes / 1e6:.1f}", f"{one.idle:.0%}",
                f"{one.floor_us:.1f}", f"{one.expected_us:.1f}",
            )
            for gpu, one in parts
        ],
        title=title,
        text=("GPU", "what"),
    )  # fmt: skip


def _forward_costs(shape: Shape, rows: int, lengths: list[int], title: str, kv_itemsize: int) -> Table:
    from edgespec.kernels.costs import GPUS
    from edgespec.kernels.forward_costs import EXITS, forward_cost

    forwards = (
        (gpu, forward_cost(gpu, shape, rows, length, kv_itemsize)) for gpu in GPUS for length in lengths
    )
    return table(
        ["GPU", "slots", "launches", "KV, MB", "idle", "weights' floor, ms", "expected, ms", "over it",
         f"{EXITS} exits, 16 bits", "8 bits"],
        [
            (
                gpu.name, one.slots, one.launches, f"{one.kv_bytes / 1e6:.0f}", f"{one.idle:.0%}",
                f"{one.floor_us / 1e3:.2f}", f"{one.expected_us / 1e3:.2f}", f"{one.over_floor:.2f}",
                *(f"+{one.exits_share(bits):.1%}" for bits in (16, 8)),
            )
            for gpu, one in forwards
        ],
        title=f"a forward of {title}",
        text=("GPU",),
    )  # fmt: skip


def _shape(target: str | None) -> Shape:
    from edgespec.core.json_files import read_object
    from edgespec.engines.model_folder import find_folder, name_of
    from edgespec.kernels.forward_costs import LLAMA_2_7B, Shape

    if target is None:
        return LLAMA_2_7B
    folder = find_folder(target)
    config = read_object(folder / "config.json", "copy the model again")
    return Shape.of(config, name_of(target, folder))


def _lengths(text: str) -> list[int]:
    lengths = [int(one) if one.strip().isdigit() else 0 for one in text.split(";")]
    if not all(0 < one <= 1 << 20 for one in lengths):
        raise EdgespecError(f"--slots takes numbers from 1 to {1 << 20}, such as 256;2048, not {text!r}.")
    return lengths
