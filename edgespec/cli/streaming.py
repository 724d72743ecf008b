"""What `generate`, `chat` and `doctor` share: opening sessions as the options say, and printing text as it comes."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import click

from edgespec.cli.child import child, spinner
from edgespec.cli.options import Connection, Speculation
from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import DEVICE, policy
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

HostPort = tuple[str, int]

INTERRUPT_CHECK_S = 0.1
"""How often a waiting session checks for Ctrl-C."""


@contextlib.contextmanager
def reachable_server(servers: Sequence[HostPort] | None, mode: str = "auto") -> Iterator[Sequence[HostPort]]:
    """The given servers; if None, a local one with the bundled models, started here (mode `device` needs none)."""
    if servers is not None or mode == DEVICE:
        yield servers or ()
        return
    threads = max(1, (os.cpu_count() or 2) - 1)  # the edge needs one
    command = ["serve", "--port", "0", "--threads", str(threads)]
    with child(command, "starting a server with the bundled models ...") as address:
        yield [address]


class SessionMaker:
    """Opens sessions with the same options. The draft engine is loaded once."""

    def __init__(
        self, speculation: Speculation, params: SamplingParams, connection: Connection, traced: bool = False
    ) -> None:
        self._speculation, self._params, self._traced = speculation, params, traced
        self._link = connection.link_options()
        mode, objective, budget = speculation.mode, speculation.objective, speculation.budget
        if mode == DEVICE and speculation.latency_ms is not None:
            raise EdgespecError("mode `device` has no server that could keep --latency-ms: leave it out.")
        drafts = mode == DEVICE or policy(mode, speculation.draft_tokens, objective, budget).drafts
        with spinner("loading the draft ..."):
            folder = speculation.draft or bundled_engine()
            self._engine = load_draft(folder) if drafts else None
            self.tokenizer = Tokenizer.load(self._engine.tokenizer_path if self._engine else folder)

    def open(self, servers: Sequence[HostPort]) -> Session | DeviceSession:
        """A new session with the first server that answers. Raises EdgespecError if none does."""
        speculation = self._speculation
        pace = None if speculation.draft_pace_ms is None else DraftPacing(speculation.draft_pace_ms)
        if speculation.mode == DEVICE:
            assert self._engine is not None
            return DeviceSession(self._engine, self._params, tokenizer=self.tokenizer, draft_pace=pace)
        return Session(
            servers,
            self._engine,
            self._params,
            mode=speculation.mode,
            draft_tokens=speculation.draft_tokens,
            objective=speculation.objective,
            budget=speculation.budget,
            latency_ms=speculation.latency_ms,
            tokenizer=self.tokenizer,
            link=self._link,
            trace=[] if self._traced else None,
            draft_pace=pace,
        )


def stream(session: Session | DeviceSession, write: Callable[[str], object]) -> bool:
    """Run the session to the end of its text. Ctrl-C cancels it; True if that happened.

    `write` gets the verified text as it comes. Standard error gets events of the link and unverified text.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        while not session.finished:
            if interrupted:
                session.cancel()
            step = session.step(INTERRUPT_CHECK_S)
            write(step.text)
            notes = list(step.events)
            if step.provisional:
                notes.append(f"unverified: {step.provisional!r}")
            if step.revised:
                notes.append(f"{step.revised} unverified tokens were replaced")
            for note in notes:
                click.echo(f"edgespec: {note}", err=True)
    finally:
        signal.signal(signal.SIGINT, before)
    return interrupted


def show(text: str) -> None:
    click.echo(text, nl=False)


def show_statistics(session: Session | DeviceSession) -> None:
    """One line of statistics on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return
    statistics = session.statistics
    parts = [f"{statistics.committed} tokens"]
    if statistics.tokens_per_s is not None:
        parts.append(f"{statistics.tokens_per_s:.1f} tokens/s")
    if statistics.acceptance is not None:
        parts.append(f"acceptance {statistics.acceptance:.2f}")
    if statistics.hints_sent:
        parts.append(f"correct hints {statistics.hints_hit}/{statistics.hints_sent}")
    click.echo(f"\n[{', '.join(parts)}]", err=True)
