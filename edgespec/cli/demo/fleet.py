"""`edgespec demo --fleet`: three servers under Ray, one of them killed in mid-text, and the same text goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from edgespec.cli.child import child, spinner
from edgespec.cli.extras import needs
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

PROMPT = "def read_lines(path):\n    "
REPLICAS = 3
VERIFY_PACE_MS = 30.0
"""So that a text lasts long enough to be watched."""


@dataclass
class Played:
    """One text: its tokens, and the longest wait between them."""

    tokens: list[int]
    longest_gap_s: float


def play_fleet(params: SamplingParams) -> bool:
    """Whether the text with a killed server is the one without. Raises EdgespecError."""
    with needs("ray"):
        from edgespec.fleet import control
    with spinner("loading the draft ..."):
        engine = load_draft(bundled_engine())
    command = ["fleet", "up", "--replicas", str(REPLICAS), "--port", "7499", "--threads", "1"]
    command += ["--kv-memory", "64MiB", "--verify-pace-ms", str(VERIFY_PACE_MS), "--drain-s", "1"]
    with child(command, f"starting {REPLICAS} servers under Ray ...") as (host, port):
        directory = f"http://{host}:{port}"
        pids = {str(one["address"]): int(one["pid"]) for one in control.replicas()}
        click.echo(f"{len(pids)} servers: {', '.join(pids)}\n")

        def kill(session: Session) -> None:
            address = str(session.address)
            os.kill(pids[address], signal.SIGKILL)
            click.echo(f"\n-- killed the server at {address} (process {pids[address]})")

        undisturbed = _play(Session(directory=directory, draft=engine, params=params))
        disturbed = _play(Session(directory=directory, draft=engine, params=params), kill)
    same = undisturbed.tokens == disturbed.tokens
    click.echo(
        f"longest wait for a token: {undisturbed.longest_gap_s:.2f} s undisturbed, "
        f"{disturbed.longest_gap_s:.2f} s with a server killed"
    )
    click.echo(f"identical: {'yes' if same else 'no'}")
    return same


def _play(session: Session, kill: Callable[[Session], None] | None = None) -> Played:
    """kill: called once, a third through the text."""
    played = Played([], 0.0)
    with session:
        session.prompt(PROMPT)
        last_s = None
        for step in session:
            now_s = time.monotonic()
            if step.tokens:
                played.longest_gap_s = max(played.longest_gap_s, now_s - (last_s or now_s))
                last_s = now_s
            played.tokens += step.tokens
            for event in step.events:
                click.echo(f"\n-- {event}")
            click.echo(step.text, nl=False)
            if kill is not None and len(played.tokens) > session.params.max_new_tokens // 3:
                kill(session)
                kill = None
    click.echo("\n")
    return played
