"""`edgespec generate`: continue one prompt and stream the text, or print one JSON object."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgespec.cli.flags import PATH, group, option
from edgespec.cli.options import (
    Connection,
    Remembering,
    Speculation,
    connection,
    remembering,
    sampling,
    speculation,
)
from edgespec.cli.streaming import SessionMaker, reachable_server, show, show_statistics, show_step, stream
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.whole_files import save_json
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.trace import trace_object


@dataclass(frozen=True)
class Prompt:
    """The text to continue."""

    prompt: str | None = option("The text to continue.", metavar="TEXT")
    prompt_file: str | None = option("A file with the text to continue; - is standard input.", metavar="FILE")
    image: tuple[Path, ...] = option(
        "A picture before the text; may be repeated.", (), multiple=True, type=PATH, metavar="FILE"
    )

    def text(self) -> str:
        if (self.prompt is None) == (self.prompt_file is None):
            raise EdgespecError("give the prompt once: with --prompt TEXT or with --prompt-file FILE.")
        if self.prompt_file is None:
            return str(self.prompt)
        try:
            if self.prompt_file == "-":
                return sys.stdin.buffer.read().decode("utf-8")
            with open(self.prompt_file, encoding="utf-8", newline="") as file:
                return file.read()
        except UnicodeDecodeError:
            raise EdgespecError(
                f"{self.prompt_file} is not UTF-8 text: give a text file as prompt."
            ) from None


@dataclass(frozen=True)
class Output:
    """What is printed and written."""

    trace: Path | None = option("Write the session's timeline to this file, for ui.perfetto.dev.")
    explain: bool = option("Print the reasons for the choices of mode `auto` to standard error.", False)
    json: bool = option("Print one JSON object: the text, its tokens and the statistics.", False)
    logprobs: int | None = option(
        "With --json: each token's log-probability under the target, and those of the N likeliest tokens at its "
        "position, 0 to 20.",
        metavar="N",
    )

    def params(self) -> dict[str, Any]:
        """What the session is asked for. Raises EdgespecError."""
        if self.logprobs is None:
            return {}
        if not self.json:
            raise EdgespecError("--logprobs are part of the JSON object: give --json too.")
        return {"logprobs": True, "top_logprobs": self.logprobs}


@click.command()
@group("prompt", Prompt)
@speculation
@sampling
@connection
@remembering
@group("output", Output)
def generate(
    prompt: Prompt,
    speculation: Speculation,
    params: SamplingParams,
    connection: Connection,
    remembering: Remembering,
    output: Output,
) -> int:
    """Continue one prompt.

    Without --server, this command starts a local server with the bundled models, and ends it afterwards.
    """
    text = prompt.text()
    remembered, traced = remembering.options(speculation.mode), output.trace is not None
    maker = SessionMaker(speculation, params, connection, traced, remembered, output.params())
    steps: list[Step] = []
    with reachable_server(connection, speculation.mode) as servers, maker.open(servers) as session:
        session.prompt([*prompt.image, text] if prompt.image else text)
        interrupted = stream(session, steps.append if output.json else show_step)
        if output.json:
            report = {**_report(session, speculation.draft_pace_ms), **_logprobs(session, steps)}
            click.echo(json.dumps(report, ensure_ascii=False))
        else:
            show("\n")
            show_statistics(session)
        if output.explain:
            for choice, reason in session.policy.reasons.items():
                click.echo(f"{choice}: {reason}", err=True)
        if output.trace is not None:
            save_json(trace_object(session.trace or [], session.statistics.to_json()), output.trace)
    return 130 if interrupted else 0


def _report(session: Session | DeviceSession, draft_pace_ms: float | None) -> dict[str, Any]:
    return {
        "prompt_tokens": session.prompt_tokens,
        "tokens": session.tokens,
        "text": session.text,
        "finish_reason": session.finish_reason,
        "mode": session.policy.name,
        "seed": session.params.seed,
        "draft_pace_ms": draft_pace_ms,
        "statistics": session.statistics.to_json(),
    }


def _logprobs(session: Session | DeviceSession, steps: Sequence[Step]) -> dict[str, Any]:
    """Of each token, and of the likeliest ones at its position by their ids, where they were asked for."""
    found: dict[str, Any] = {}
    if session.params.logprobs:
        found["logprobs"] = [one for step in steps for one in step.logprobs or ()]
    if session.params.top_logprobs:
        found["top_logprobs"] = [one for step in steps for one in step.top_logprobs or ()]
    return found
