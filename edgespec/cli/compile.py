"""`edgespec compile`: a draft model -> an engine folder that an edge runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("model", metavar="DIR|org/name|ENGINE_DIR")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The engine folder; else one in the cache."
)
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    help="What will run it: onnxruntime, tensorrt or tensorrt-rtx.",
)
@click.option("--precision", default="auto", show_default=True, help="Of the weights: fp32, fp16 or int8.")
@click.option(
    "--target-device", metavar="NAME", help="Take the settings of a device's profile, such as orin-nano-8gb."
)
@click.option(
    "--max-len", type=click.IntRange(1), help="Tokens of a text at most; else 2048 or the profile's."
)
@click.option(
    "--target-tokenizer",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="The target's folder or tokenizer.json: refuse a draft of another vocabulary now, not when a session opens.",
)
@click.option("--force", is_flag=True, help="Build although the folder holds an engine.")
def compile_draft(model: str, out: Path | None, **options: Any) -> None:
    """Make a draft engine of a draft model: a local folder in Hugging Face format, or a model id.

    Given an engine folder, build its TensorRT plan for this device; that needs no torch.
    """
    from edgespec.engines.compiling import compile

    click.echo(compile(model, out, **options))
