"""`edgespec bench kernels`: what the CPU kernels cost on this machine beside torch and the memory's own speed."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def bench() -> None:
    """Measure parts of edgespec on this machine."""


@bench.command()
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Where results go too.")
@click.option("--shapes", default="32000x4096,128256x4096", show_default=True, help="Vocabulary x width.")
@click.option("--rows", default="1,4,8,32", show_default=True)
@click.option("--dtypes", default="float32,bfloat16", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option("--compiled/--no-compiled", default=True, show_default=True, help="Time torch.compile too.")
def kernels(
    file: Path | None, shapes: str, rows: str, dtypes: str, threads: int, repeats: int, compiled: bool
) -> None:
    """exit_head and verify beside torch, eager and compiled, and the floor: bytes to read over read bandwidth."""
    from edgespec.core.errors import EdgespecError

    sizes = [_numbers(one, "x", "--shapes", 2) for one in shapes.split(",")]
    counts = _numbers(rows, ",", "--rows")
    names = dtypes.split(",")
    if not set(names) <= {"float32", "bfloat16", "float16"}:
        raise EdgespecError(f"--dtypes takes float32, bfloat16 and float16, not {dtypes!r}.")
    if max(counts) > 64:
        raise EdgespecError(f"--rows takes 1 to 64, as exit_head does, not {rows!r}.")
    try:
        from edgespec.bench.kernel_times import measure
        from edgespec.cli.demo.report import hardware
    except ModuleNotFoundError as error:
        raise EdgespecError(f"timing kernels needs {error.name}: pip install 'edgespec[server]'.") from None
    from edgespec.core.json_file import save_json

    machine = hardware()
    click.echo(f"{machine}; {threads} threads")
    click.echo(
        f"{'kernel':13}{'dtype':>9}{'R':>4}{'V':>8}{'D':>6}{'ms':>10}{'eager':>8}{'compiled':>10}{'floor':>7}"
    )
    done = []
    cases = measure(
        [(vocab, dim) for vocab, dim in sizes],
        counts,
        names,
        threads=threads,
        repeats=repeats,
        compiled=compiled,
    )
    for one in cases:
        done.append(one.to_json())
        quicker = "-" if one.compiled_ms is None else f"{one.compiled_ms / one.ms:.2f}x"
        click.echo(
            f"{one.kernel:13}{one.dtype:>9}{one.rows:>4}{one.vocab:>8}{one.dim:>6}{one.ms:>10.3f}"
            f"{one.eager_ms / one.ms:>7.2f}x{quicker:>10}{one.floor_ms / one.ms:>7.0%}"
        )
        if file is not None:
            save_json({"hardware": machine, "rows": done}, file)


def _numbers(text: str, separator: str, option: str, count: int | None = None) -> list[int]:
    from edgespec.core.errors import EdgespecError

    try:
        found = [int(one) for one in text.split(separator)]
    except ValueError:
        found = []
    if not found or min(found) < 1 or (count is not None and len(found) != count):
        raise EdgespecError(
            f"{option} cannot be read in {text!r}: give whole numbers above 0, as in the default."
        )
    return found
