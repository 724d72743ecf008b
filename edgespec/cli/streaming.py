"""What `generate` and `chat` share: a session from flags, streamed to the terminal, that Ctrl-C cancels."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgespec.core.child import child, spinner
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import DEVICE

if TYPE_CHECKING:
    from edgespec.edge.device_session import DeviceSession
    from edgespec.edge.link_options import LinkOptions
    from edgespec.edge.session import Session

HostPort = tuple[str, int]

LOOK_UP_S = 0.1
"""How often a waiting session looks up whether it was interrupted."""


@contextlib.contextmanager
def reachable_server(servers: Sequence[HostPort] | None, mode: str = "auto") -> Iterator[Sequence[HostPort]]:
    """The given servers; or one that serves the bundled pair for as long as this lasts, if the mode needs one."""
    if servers is not None or mode == DEVICE:
        yield servers or ()
        return
    threads = max(1, (os.cpu_count() or 2) - 1)  # one is the edge's
    with child(
        ["serve", "--port", "0", "--threads", str(threads)], "starting a server on the bundled pair ..."
    ) as address:
        yield [address]


class SessionMaker:
    """Opens sessions of one kind; the draft engine is loaded once."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        draft: Path | None,
        mode: str,
        draft_tokens: int | None,
        objective: str = "latency",
        budget: float | None = None,
        latency_ms: float | None = None,
        draft_pace_ms: float | None,
        link: LinkOptions,
        traced: bool = False,
    ) -> None:
        from edgespec.core.tokenizer import Tokenizer
        from edgespec.drafting.modes import policy
        from edgespec.engines.bundled import bundled_engine
        from edgespec.engines.draft_engine import load_draft

        self._params = params
        self._policy: dict[str, Any] = {
            "mode": mode,
            "draft_tokens": draft_tokens,
            "objective": objective,
            "budget": budget,
            "latency_ms": latency_ms,
        }
        self._draft_pace_ms = draft_pace_ms
        self._link = link
        self._traced = traced
        drafts = mode == DEVICE or policy(mode, draft_tokens, objective, budget).drafts
        with spinner("loading the draft ..."):
            folder = draft or bundled_engine()
            self._engine = load_draft(folder) if drafts else None
            self.tokenizer = Tokenizer.load(self._engine.tokenizer_path if self._engine else folder)

    def open(self, servers: Sequence[HostPort]) -> Session | DeviceSession:
        """A new session with the first server that answers. Raises EdgespecError where there is none for this draft."""
        from edgespec.core.pacing import DraftPace
        from edgespec.edge.session import Session

        pace = None if self._draft_pace_ms is None else DraftPace(self._draft_pace_ms)
        if self._policy["mode"] == DEVICE:
            from edgespec.edge.device_session import DeviceSession

            assert self._engine is not None
            if self._policy["latency_ms"] is not None:
                raise EdgespecError("mode 'device' asks no server for anything: leave --latency-ms off.")
            return DeviceSession(self._engine, self._params, tokenizer=self.tokenizer, draft_pace=pace)
        return Session(
            servers,
            self._engine,
            self._params,
            **self._policy,
            tokenizer=self.tokenizer,
            link=self._link,
            trace=[] if self._traced else None,
            draft_pace=pace,
        )


def stream(session: Session | DeviceSession, write: Callable[[str], object]) -> bool:
    """Run the session to its text's end and write the text as it comes; True if Ctrl-C cancelled it.

    What happens to the link meanwhile is said on standard error, and what the draft writes alone: `write` gets nothing
    that the target has not said.
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
            step = session.step(LOOK_UP_S)
            write(step.text)
            for event in step.events:
                print(f"edgespec: {event}", file=sys.stderr, flush=True)
            if step.provisional:
                print(f"edgespec: unverified: {step.provisional!r}", file=sys.stderr, flush=True)
            if step.revised:
                print(f"edgespec: {step.revised} unverified tokens are replaced", file=sys.stderr, flush=True)
    finally:
        signal.signal(signal.SIGINT, before)
    return interrupted


def show(text: str) -> None:
    """Write to standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def show_statistics(session: Session | DeviceSession) -> None:
    """A line on standard error, if that is a terminal: how fast it was, and why."""
    if not sys.stderr.isatty():
        return
    statistics = session.statistics
    parts = [f"{statistics.committed} tokens"]
    if statistics.tokens_per_s is not None:
        parts.append(f"{statistics.tokens_per_s:.1f} tokens/s")
    if statistics.acceptance is not None:
        parts.append(f"acceptance {statistics.acceptance:.2f}")
    if statistics.hints_sent:
        parts.append(f"hints {statistics.hints_hit}/{statistics.hints_sent}")
    print(f"\n[{', '.join(parts)}]", file=sys.stderr)
