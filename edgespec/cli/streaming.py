"""What `generate`, `chat` and `doctor` share: opening sessions as the options say, and printing text as it comes."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import FrameType, MappingProxyType
from typing import Any

import click

from edgespec.cli.child import child, spinner
from edgespec.cli.options import Connection, Speculation, chosen_sampling
from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import DEVICE, policy
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.trace import Event
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

HostPort = tuple[str, int]

INTERRUPT_CHECK_S = 0.1
"""How often a waiting session checks for Ctrl-C."""


@contextlib.contextmanager
def reachable_server(connection: Connection, mode: str = "auto") -> Iterator[Sequence[HostPort]]:
    """The servers that are given, none for a directory; otherwise a local one with the bundled models, started here
    (mode `device` needs none)."""
    if connection.server is not None or connection.directory is not None or mode == DEVICE:
        yield connection.server or ()
        return
    threads = max(1, (os.cpu_count() or 2) - 1)  # the edge needs one
    command = ["serve", "--port", "0", "--threads", str(threads)]
    with child(command, "starting a server with the bundled models ...") as address:
        yield [address]


def open_session(
    servers: Sequence[HostPort],
    engine: DraftEngine | None,
    params: SamplingParams | Mapping[str, Any],
    *,
    mode: str,
    draft_pace_ms: float | None,
    trace: list[Event] | None,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Session | DeviceSession:
    """A session in any mode; mode `device` has no server, and so no options. params: a mapping names those that are
    chosen (see `Session`). Raises EdgespecError."""
    pace = None if draft_pace_ms is None else DraftPacing(draft_pace_ms)
    if mode == DEVICE:
        assert engine is not None
        params = params if isinstance(params, SamplingParams) else SamplingParams(**params)
        return DeviceSession(engine, params, tokenizer=tokenizer, draft_pace=pace, trace=trace)
    options |= {"mode": mode, "tokenizer": tokenizer, "draft_pace": pace, "trace": trace}
    return Session(servers, engine, params, **options)


class SessionMaker:
    """Opens sessions with the same options. remembering: options of `Session` about memories. more:
    parameters besides those of `params`. The draft is loaded once."""

    def __init__(
        self,
        speculation: Speculation,
        params: SamplingParams,
        connection: Connection,
        traced: bool = False,
        remembering: Mapping[str, Any] = MappingProxyType({}),
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        mode, objective, budget = speculation.mode, speculation.objective, speculation.budget
        if mode == DEVICE and speculation.latency_ms is not None:
            raise EdgespecError("mode `device` has no server that could keep --latency-ms: leave it out.")
        drafts = mode == DEVICE or policy(mode, speculation.draft_tokens, objective, budget).drafts
        self._traced = traced
        self._options = {**asdict(speculation), "link": connection.link_options()}
        self._options["directory"] = connection.asked_directory()
        self._options |= remembering
        folder = self._options.pop("draft")
        with spinner("loading the draft ..."):
            self._engine = load_draft(folder or bundled_engine()) if drafts else None
        self._chosen = {**chosen_sampling(params), **more}

    def open(self, servers: Sequence[HostPort]) -> Session | DeviceSession:
        """A new session with the first server that answers. Raises EdgespecError if none does."""
        trace: list[Event] | None = [] if self._traced else None
        return open_session(servers, self._engine, self._chosen, **self._options, trace=trace)


def stream(session: Session | DeviceSession, take: Callable[[Step], object]) -> bool:
    """Run the session to the end of its text. Ctrl-C cancels it; True if that happened.

    `take` gets each step as it comes. Standard error gets events of the link and unverified text.
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
            take(step)
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


def show_step(step: Step) -> None:
    show(step.text)


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
