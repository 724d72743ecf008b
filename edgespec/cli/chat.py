"""`edgespec chat`: a conversation in the terminal. Each turn is appended to one session, so nothing is read twice."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

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
from edgespec.core.params import SamplingParams
from edgespec.edge.conversation import Conversation

HELP = "/reset starts a new conversation, /exit ends; Ctrl-C stops an answer."


@click.command()
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A picture that the first question is about; may be repeated.",
)
@click.option("--system", metavar="TEXT", help="System message, for models whose chat template has one.")
@speculation
@sampling
@connection
@remembering
def chat(
    images: tuple[Path, ...],
    system: str | None,
    speculation: Speculation,
    params: SamplingParams,
    connection: Connection,
    remembering: Remembering,
) -> None:
    """Talk with the target, turn by turn, with its own chat template.

    A model without a template continues what you type. /reset starts a new conversation, /exit ends.
    """
    maker = SessionMaker(speculation, params, connection, remembering=remembering.options(speculation.mode))
    with reachable_server(connection, speculation.mode) as servers:
        click.echo(HELP, err=True)
        while _converse(maker, servers, system, images):
            click.echo("A new conversation.", err=True)


def _converse(
    maker: SessionMaker, servers: Sequence[tuple[str, int]], system: str | None, images: Sequence[Path]
) -> bool:
    """One conversation: True if /reset ended it, False at the end of input."""
    with maker.open(servers) as session:
        conversation = Conversation(session.tokenizer, system)
        if session.tokenizer.chat_template is None:
            click.echo("This model has no chat template: it continues what you type.", err=True)
        while (line := _read_line()) is not None:
            if line == "/reset":
                return True
            if not line:
                continue
            if session.all_tokens:
                session.append(conversation.next_turn(line, session.tokens))
            else:
                session.prompt(
                    conversation.first_turn(line, images) if images else conversation.next_turn(line, [])
                )
            stream(session, show_step)
            show("\n")
            show_statistics(session)
        return False


def _read_line() -> str | None:
    """None at the end of input or on /exit."""
    try:
        line = input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    return None if line in ("/exit", "/quit") else line
