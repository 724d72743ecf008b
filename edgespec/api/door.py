"""The door: one draft engine and one link for all requests. A request becomes texts, a text a session's steps."""

import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

from edgespec.api.ask import Ask
from edgespec.api.errors import ApiError, unavailable
from edgespec.api.fair_queue import FairQueue
from edgespec.api.metrics import Metrics
from edgespec.api.session_store import OpenSession, SessionStore, Source
from edgespec.api.turning import steps
from edgespec.core.errors import EdgespecError
from edgespec.core.params import ParameterError
from edgespec.drafting.modes import POLICIES, policy
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.trace import Event


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


@dataclass(frozen=True, slots=True)
class TextStep:
    """index: of the text within its request. events: what happened on the session's timeline since the step before."""

    index: int
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
        self.store = SessionStore(source, self.limits.kept_sessions)
        self.metrics = Metrics(lambda: self.queue.running, lambda: self.queue.waiting)
        self._drafting = ThreadPoolExecutor(1, "edgespec-draft")

    @property
    def modes(self) -> list[str]:
        """The modes that are offered, the one that a request gets by default first."""
        drafts = self.source.engine is not None
        offered = [mode for mode in POLICIES if drafts or not policy(mode).drafts]
        default = "auto" if drafts else "cloud"
        return [default, *(mode for mode in offered if mode != default)]

    async def texts(
        self, asks: Sequence[Ask], address: str, user: str = ""
    ) -> AsyncGenerator[TextStep, None]:
        """The texts one after another, under one place in the queue. Raises ApiError."""
        async with self.queue.turn(address, user):
            for index, ask in enumerate(asks):
                meter = self.metrics.text()
                async with aclosing(self._text(index, ask)) as text:
                    async for step in text:
                        now_s = time.monotonic()
                        try:
                            yield step
                        finally:  # behind what the client waits for
                            meter.add(step, now_s)

    async def _text(self, index: int, ask: Ask) -> AsyncGenerator[TextStep, None]:
        for fresh in (False, True):
            begun, reused = False, 0
            try:
                async with self.store.begin(ask, fresh) as opened:
                    session, reused = opened.session, opened.reused
                    drafting = None if opened.engine is None else self._drafting
                    async with aclosing(steps(session, drafting)) as written:
                        async for step in written:
                            begun = True
                            yield TextStep(index, step, opened, _events(session))
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


def _events(session: Session) -> list[Event]:
    if session.trace is None:
        return []
    events = list(session.trace)
    session.trace.clear()
    return events
