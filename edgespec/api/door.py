"""The door: one draft engine and one link for all requests. A request becomes texts, a text a session's steps."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property

from edgespec.api.ask import Ask
from edgespec.api.errors import ApiError, unavailable
from edgespec.api.fair_queue import FairQueue
from edgespec.api.holder import Holder
from edgespec.api.metrics import Metrics
from edgespec.api.session_store import OpenSession, SessionStore, Source
from edgespec.api.turning import settled, steps
from edgespec.core.errors import EdgespecError
from edgespec.core.params import ParameterError
from edgespec.drafting.modes import POLICIES, policy
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.trace import Event

READERS = 4
"""Requests whose template and tokenizer run at once. An address has three of them at most."""

Read = Callable[[], Sequence[Ask]]
"""Makes a request's texts of it; takes long where its prompt is long. Raises ApiError."""


@dataclass(frozen=True)
class Limits:
    """streams: texts written at once; waiting: requests that wait for their turn; kept_sessions: finished sessions held
    for a next turn; default_tokens: of an answer whose request does not say; stalled_s: a
    client that takes nothing for so long is given up; choices: `n` at most."""

    streams: int = 16
    waiting: int = 64
    kept_sessions: int = 8
    default_tokens: int = 1024
    stalled_s: float = 30.0
    choices: int = 8

    @property
    def sessions(self) -> int:
        """Open at once, at most."""
        return self.streams + self.kept_sessions


@dataclass(frozen=True, slots=True)
class TextStep:
    """index: of the text within its request, whose texts are `asks`. events: what happened on the session's timeline
    since the step before."""

    index: int
    asks: Sequence[Ask]
    step: Step
    opened: OpenSession
    events: Sequence[Event]


class Door:
    """model: the name under which the target is offered."""

    def __init__(self, source: Source, model: str, limits: Limits | None = None) -> None:
        self.source = source
        self.model = model
        self.limits = limits or Limits()
        self.queue = FairQueue(self.limits.streams, self.limits.waiting)
        self.store = SessionStore(source, self.limits.kept_sessions, self.limits.streams)
        self.metrics = Metrics(lambda: self.queue.running, lambda: self.queue.waiting)
        self._drafting = ThreadPoolExecutor(1, "edgespec-draft")
        self._reading = ThreadPoolExecutor(READERS, "edgespec-read")
        # Whoever reads has a turn already, so nobody is refused here.
        self._readers = FairQueue(READERS, 2 * self.limits.streams)

    @property
    def modes(self) -> list[str]:
        """The modes that are offered, the one that a request gets by default first."""
        drafts = self.source.engine is not None
        offered = [mode for mode in POLICIES if drafts or not policy(mode).drafts]
        default = "auto" if drafts else "cloud"
        return [default, *(mode for mode in offered if mode != default)]

    @cached_property
    def longest_token(self) -> int:
        """Characters."""
        return max(map(len, self.source.tokenizer.core.get_vocab(with_added_tokens=True)))

    async def texts(self, read: Read, holder: Holder) -> AsyncGenerator[TextStep, None]:
        """The texts one after another, under one place in the queue, which reading them needs too. Raises ApiError."""
        async with self.queue.turn(holder.network, holder.name):
            asks = await self._read(read, holder)
            for index in range(len(asks)):
                meter = self.metrics.text()
                async with aclosing(self._text(index, asks, holder)) as text:
                    async for step in text:
                        now_s = time.monotonic()
                        try:
                            yield step
                        finally:  # behind what the client waits for
                            meter.add(step, now_s)

    async def _read(self, read: Read, holder: Holder) -> Sequence[Ask]:
        async with self._readers.turn(holder.network, holder.name):
            return await settled(asyncio.get_running_loop().run_in_executor(self._reading, read))

    async def _text(self, index: int, asks: Sequence[Ask], holder: Holder) -> AsyncGenerator[TextStep, None]:
        for fresh in (False, True):
            begun, reused = False, 0
            try:
                async with self.store.begin(asks[index], holder, fresh) as opened:
                    session, reused = opened.session, opened.reused
                    drafting = None if opened.engine is None else self._drafting
                    async with aclosing(steps(session, drafting)) as written:
                        async for step in written:
                            begun = True
                            yield TextStep(index, asks, step, opened, _events(session))
                return
            except ApiError:
                raise
            except ParameterError as error:
                raise ApiError(400, str(error)) from None
            except EdgespecError as error:
                if begun or not reused:
                    raise unavailable(error) from None
                # A kept session whose link was lost meanwhile: once more, with a new one.

    def close(self) -> None:
        self.store.close()
        self._drafting.shutdown()
        self._reading.shutdown()


def _events(session: Session) -> list[Event]:
    if session.trace is None:
        return []
    events = list(session.trace)
    session.trace.clear()
    return events
