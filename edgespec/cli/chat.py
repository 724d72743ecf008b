"""`edgespec chat`: a conversation on the terminal. A next turn appends to the session; nothing is prefilled twice."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.options import connection, link_options, safety, sampling, sampling_params

if TYPE_CHECKING:
    from edgespec.cli.streaming import SessionMaker
    from edgespec.edge.device_session import DeviceSession
    from edgespec.edge.session import Session

HELP = "/reset begins a new conversation, /exit ends; Ctrl-C stops an answer."


@click.command()
@connection
@safety
@sampling
@click.option(
    "--system", metavar="TEXT", help="What the conversation begins with, for templates that take it."
)
def chat(system: str | None, **flags: Any) -> None:
    """Talk with a target, turn by turn, through its own chat template.

    A model without a template continues what you type. /reset begins a new conversation, /exit ends.
    """
    from edgespec.cli.streaming import SessionMaker, reachable_server

    params = sampling_params(flags)
    server = flags.pop("server")
    maker = SessionMaker(params, link=link_options(flags, server), **flags)
    with reachable_server(server, flags["mode"]) as servers:
        if maker.tokenizer.chat_template is None:
            print("This model has no chat template: it continues what you type.", file=sys.stderr)
        print(HELP, file=sys.stderr)
        while _converse(maker, servers, system):
            print("A new conversation.", file=sys.stderr)


def _converse(maker: SessionMaker, servers: Sequence[tuple[str, int]], system: str | None) -> bool:
    """One conversation, up to /reset (True) or to the end of input (False)."""
    from edgespec.cli.streaming import show, show_statistics, stream
    from edgespec.edge.conversation import Conversation

    conversation = Conversation(maker.tokenizer, system)
    session: Session | DeviceSession | None = None
    try:
        while (line := _ask()) is not None:
            if line == "/reset":
                return True
            if line:
                turn = conversation.next_turn(line, session.tokens if session else [])
                if session is None:
                    session = maker.open(servers)
                    session.prompt(turn)
                else:
                    session.append(turn)
                stream(session, show)
                show("\n")
                show_statistics(session)
        return False
    finally:
        if session is not None:
            session.close()


def _ask() -> str | None:
    """The next line; None at the end of input or /exit. A prompt shows on a terminal only."""
    try:
        line = input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    return None if line in ("/exit", "/quit") else line
