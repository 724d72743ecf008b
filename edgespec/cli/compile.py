"""`edgespec compile`: turn a draft model into an engine folder, which a device runs without torch."""

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edgespec.cli.flags import group, option
from edgespec.engines.compiling import compile


@dataclass(frozen=True)
class Build:
    """How to build; the names are those of `edgespec.compile`."""

    out: Path | None = option("The engine folder to write.", show_default="one in the user's cache")
    runtime: str = option("What will run the engine: onnxruntime, tensorrt or tensorrt-rtx.", "auto")
    precision: str = option(
        "Precision of the weights: fp32, fp16 or int8. auto: fp16 on a GPU, else fp32.", "auto"
    )
    target_device: str | None = option("Use the settings of a device's profile, such as orin-nano-8gb.")
    max_len: int | None = option(
        "Longest text in tokens, prompt included.",
        show_default="the profile's, or 2048",
        type=click.IntRange(1),
    )
    target_tokenizer: Path | None = option(
        "The target's folder or tokenizer.json. The engine encodes text as the target does. A draft with a different "
        "vocabulary is refused now, rather than when a session opens."
    )
    picture_size: str | None = option(
        "For a draft that sees: the size of its pictures, WIDTHxHEIGHT in pixels.",
        show_default="about 224x224",
    )
    force: bool = option("Build even if the folder already holds an engine.", False)


@click.command()
@click.argument("model", metavar="DIR|org/name|ENGINE_DIR")
@group("build", Build)
def compile_draft(model: str, build: Build) -> None:
    """Build a draft engine from a draft model: a local folder or a Hugging Face id.

    For an engine folder, build its TensorRT plan for this device; that needs no torch.
    """
    click.echo(compile(model, **asdict(build)))
