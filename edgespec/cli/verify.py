"""`edgespec verify`: hold every mode to transformers' own `generate`, with a user's own models."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import group as option_group
from edgespec.cli.flags import option
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.drafting.modes import POLICIES, policy
from edgespec.edge.session import Session
from edgespec.engines.draft_engine import DraftEngine, load_draft

if TYPE_CHECKING:
    from edgespec.model.reference import ReferenceText
    from edgespec.model.target import Target

PROMPTS = (
    "The first thing to know about bridges is",
    "def read_lines(path):\n    ",
    "1, 2, 3, 4,",
    "Dear all,\n\n",
)
Kind = tuple[float, str]
"""A temperature, and what else holds for a text."""

CONSTRAINTS: dict[str, dict[str, Any]] = {
    "none": {},
    "penalties": {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25},
    "guide": {"guide": Guide.regex("[A-Za-z0-9 ,.]+")},
}
NEAR_TIE = {"float64": 1e-4, "float32": 1e-2, "bfloat16": 0.5, "float16": 0.1}
"""Margins below which a forward of more rows may choose otherwise, by type of the weights."""


@dataclass(frozen=True)
class Grid:
    """What is compared."""

    target: str | None = option("Folder or Hugging Face id of the target.", show_default="the bundled target")
    exits: str = option(
        "Folder of the target's exit heads; auto: `exits` in its folder; none: no exits.", "auto"
    )
    draft: Path | None = option(
        "Engine folder of a draft; without one, only modes that need none are compared."
    )
    prompt: tuple[str, ...] = option(
        "A prompt; may be repeated.", PROMPTS, multiple=True, show_default="four short ones"
    )
    modes: str | None = option("Modes, separated by commas.", show_default="all that the draft allows")
    temperatures: str = option("Temperatures, separated by commas.", "0,0.8")
    constraints: str = option(
        "What else holds for the texts, separated by commas: none, penalties, guide.", "none,penalties,guide"
    )
    max_new_tokens: int = option("Tokens of a text at most.", 32, type=click.IntRange(1, 4096))
    seed: int = option("Seed of the sampling.", 0, type=click.IntRange(0))
    dtype: str = option(
        "Type of the weights; in float64 equal means equal.",
        "float64",
        type=click.Choice(list(NEAR_TIE)),
    )
    device: str = option("Where torch computes, such as cpu or cuda:0.", "auto")
    json: Path | None = option("Write the results to this file.")

    def samplings(self) -> dict[Kind, SamplingParams]:
        try:
            temperatures = [float(one) for one in self.temperatures.split(",")]
        except ValueError:
            raise EdgespecError(
                f"--temperatures takes numbers such as 0,0.8, not {self.temperatures!r}."
            ) from None
        names = self.constraints.split(",")
        if unknown := [name for name in names if name not in CONSTRAINTS]:
            raise EdgespecError(f"--constraints takes some of {', '.join(CONSTRAINTS)}, not {unknown[0]!r}.")
        common: dict[str, Any] = {"seed": self.seed, "max_new_tokens": self.max_new_tokens}
        return {
            (one, name): SamplingParams(temperature=one, **common, **CONSTRAINTS[name])
            for one in temperatures
            for name in names
        }

    def chosen_modes(self) -> list[str]:
        """Raises EdgespecError where a mode is unknown or needs a draft."""
        able = [name for name in POLICIES if name != "colocated" and (self.draft or not policy(name).drafts)]
        chosen = able if self.modes is None else self.modes.split(",")
        for name in chosen:
            if policy(name).name not in able:
                raise EdgespecError(
                    f"mode {name!r} needs a draft: give --draft ENGINE_DIR, or leave the mode out."
                )
        return chosen


@click.command()
@option_group("grid", Grid)
@click.pass_context
def verify(context: click.Context, grid: Grid) -> None:
    """Compare every mode's text with that of transformers' `generate`, token for token.

    Prints how many texts differ and how close the first differing token was, and one sentence of verdict. Exit status 1
    where a text differs by more than a near tie of the type.
    """
    samplings, modes = grid.samplings(), grid.chosen_modes()
    engine = None if grid.draft is None else load_draft(grid.draft)
    with needs("server"):
        from edgespec.engines.model_folder import find_folder
        from edgespec.model.reference import generate
        from edgespec.model.target import Target

        exits = None if grid.exits == "none" else grid.exits
        target = Target.load(grid.target, exits, dtype=grid.dtype, device=grid.device)
    tokenizer = Tokenizer.load(find_folder(grid.target))
    prompts = [tokenizer.encode(one) for one in grid.prompt]
    cases = [(kind, prompt, params) for prompt in prompts for kind, params in samplings.items()]
    references = [generate(target.model, prompt, params) for _, prompt, params in cases]
    rows: list[dict[str, Any]] = []
    with _served(target) as address:
        for mode in modes:
            texts = [_text(address, engine, tokenizer, prompt, params, mode) for _, prompt, params in cases]
            rows += _compared(mode, [kind for kind, _, _ in cases], texts, references)
    verdict, exact = _verdict(rows, grid.dtype)
    if grid.json is not None:
        save_json({"target": target.name, "dtype": grid.dtype, "rows": rows, "verdict": verdict}, grid.json)
    _show(rows)
    click.echo(verdict)
    context.exit(0 if exact else 1)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console

    columns = ("mode", "T", "constraints", "texts", "tokens", "texts that differ", "margins there")
    fields = ("mode", "temperature", "constraints", "texts", "tokens", "different")
    lines = [
        [*(one[name] for name in fields), ", ".join(f"{margin:.2g}" for margin in one["margins"]) or "-"]
        for one in rows
    ]
    Console().print(table(columns, lines, title="Against transformers' generate"))


@contextlib.contextmanager
def _served(target: Target) -> Iterator[tuple[str, int]]:
    """The address of a server of this target in a thread of this process."""
    from edgespec.server.server import Server

    server = Server(target, port=0)
    thread = threading.Thread(target=server.run, name="edgespec-verify")
    thread.start()
    try:
        yield server.host, server.port
    finally:
        server.stop()
        thread.join()


def _text(
    address: tuple[str, int],
    engine: DraftEngine | None,
    tokenizer: Tokenizer,
    prompt: list[int],
    params: SamplingParams,
    mode: str,
) -> list[int]:
    draft = engine if policy(mode).drafts else None
    with Session(address, draft, params, mode=mode, tokenizer=tokenizer) as session:
        session.prompt(prompt)
        for _ in session:
            pass
        return list(session.tokens)


def _compared(
    mode: str,
    kinds: Sequence[Kind],
    texts: Sequence[list[int]],
    references: Sequence[ReferenceText],
) -> Iterator[dict[str, Any]]:
    """A row for each kind of text; margins: the reference's where a text first differs from it."""
    for kind in dict.fromkeys(kinds):
        chosen = [number for number, one in enumerate(kinds) if one == kind]
        margins = []
        for number in chosen:
            text, wanted = texts[number], references[number]
            if text != wanted.tokens:
                pairs = enumerate(zip(text, wanted.tokens, strict=False))
                first = next((place for place, (one, other) in pairs if one != other), None)
                margins.append(wanted.margins[first] if first is not None else float("inf"))
        yield {
            "mode": mode,
            "temperature": kind[0],
            "constraints": kind[1],
            "texts": len(chosen),
            "tokens": sum(len(references[number].tokens) for number in chosen),
            "different": len(margins),
            "margins": margins,
        }


def _verdict(rows: Sequence[dict[str, Any]], dtype: str) -> tuple[str, bool]:
    """One sentence, and whether all texts are the target's own up to near ties."""
    margins = [margin for row in rows for margin in row["margins"]]
    tokens, texts = (sum(row[name] for row in rows) for name in ("tokens", "texts"))
    if not margins:
        return (
            f"Exact: all {tokens} tokens of {texts} texts are those of transformers' generate in {dtype}.",
            True,
        )
    close = max(margins) <= NEAR_TIE[dtype]
    said = f"{len(margins)} of {texts} texts differ from transformers' generate in {dtype}"
    if close:
        return (
            f"{said}, first at near ties with margins of up to {max(margins):.2g}: fair draws of the same target.",
            True,
        )
    return (
        f"Not exact: {said}, with margins of up to {max(margins):.2g}, which is no near tie; please report it.",
        False,
    )
