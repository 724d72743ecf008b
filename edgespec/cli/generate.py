"""`edgespec generate`: continue one prompt and stream the text, or print one JSON object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edgespec.cli.options import connection, link_options, safety, sampling, sampling_params
from edgespec.core.errors import EdgespecError


@click.command()
@click.option("--prompt", metavar="TEXT", help="The text to continue.")
@click.option("--prompt-file", metavar="FILE", help="A file that holds it; - is standard input.")
@connection
@safety
@sampling
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="FILE", help="Write the timeline (Perfetto JSON)."
)
@click.option("--explain", is_flag=True, help="Say on standard error why `auto` chose what it chose.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one object: prompt_tokens, tokens, text, statistics, ..."
)
def generate(
    prompt: str | None,
    prompt_file: str | None,
    trace: Path | None,
    explain: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Continue one prompt.

    With no --server, a server on the bundled pair is started for it and ended with it.
    """
    from edgespec.cli.streaming import SessionMaker, reachable_server, show, show_statistics, stream
    from edgespec.core.json_file import save_json
    from edgespec.edge.trace_file import trace_object

    params = sampling_params(flags)
    text = _prompt_text(prompt, prompt_file)
    server = flags.pop("server")
    link = link_options(flags, server)
    maker = SessionMaker(params, link=link, traced=trace is not None, **flags)
    with reachable_server(server, flags["mode"]) as servers, maker.open(servers) as session:
        session.prompt(text)
        interrupted = stream(session, (lambda _: None) if as_json else show)
        if as_json:
            click.echo(json.dumps(_report(session, flags), ensure_ascii=False))
        else:
            show("\n")
            show_statistics(session)
        if explain:
            for choice, reason in getattr(session.policy, "reasons", {}).items():
                click.echo(f"{choice}: {reason}", err=True)
        if trace is not None:
            save_json(trace_object(session.trace or [], session.statistics.to_json()), trace)
    return 130 if interrupted else 0


def _prompt_text(prompt: str | None, prompt_file: str | None) -> str:
    if (prompt is None) == (prompt_file is None):
        raise EdgespecError("give the prompt once: with --prompt TEXT or with --prompt-file FILE.")
    if prompt is not None:
        return prompt
    assert prompt_file is not None
    try:
        if prompt_file == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        with open(prompt_file, encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise EdgespecError(f"{prompt_file} is not UTF-8 text: give a text file as prompt.") from None


def _report(session: Any, flags: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints; names that others script against."""
    return {
        "prompt_tokens": session.prompt_tokens,
        "tokens": session.tokens,
        "text": session.text,
        "finish_reason": session.finish_reason,
        "mode": session.policy.name,
        "seed": session.params.seed,
        "draft_pace_ms": flags["draft_pace_ms"],
        "statistics": session.statistics.to_json(),
    }
