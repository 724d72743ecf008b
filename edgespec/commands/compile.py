"""`edgespec compile`: a draft model -> an engine folder that an edge runs without torch."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", metavar="DIR|org/name")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The engine folder; else one in the cache.")
@click.option("--runtime", default="auto", show_default=True, help="What will run it; auto: ONNX Runtime.")
@click.option("--precision", default="auto", show_default=True, help="Of the weights: fp32 or fp16.")
@click.option("--max-len", type=click.IntRange(1), default=2048, show_default=True, help="Tokens of a text at most.")
@click.option("--force", is_flag=True, help="Build although the folder holds an engine.")
def compile_draft(model: str, out: Path | None, runtime: str, precision: str, max_len: int, force: bool) -> None:
    """Make a draft engine of a draft model: a local folder in Hugging Face format, or a model id."""
    from edgespec.compiling import compile

    folder = compile(model, out, runtime=runtime, precision=precision, max_len=max_len, force=force)
    click.echo(folder)
