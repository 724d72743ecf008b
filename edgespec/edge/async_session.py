"""The asyncio twin of `Session`: the same loop, turned by an event loop. Drafting runs in a worker thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

from edgespec.core.address import DEFAULT_SERVER, AnAddress
from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.policy import Policy
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.trace import Event
from edgespec.engines.draft_engine import DraftEngine

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SessionOptions(TypedDict, total=False):
    """The keyword options of `Session`."""

    mode: str | Policy
    draft_tokens: int | None
    objective: str
    budget: float | None
    latency_ms: float | None
    tokenizer: Tokenizer | None
    timeout_s: float
    link: LinkOptions | None
    trace: list[Event] | None
    draft_pace: DraftPacing | None
    measurements: Measurements | None


class AsyncSession:
    """Takes what `Session` takes; use it with `async with`, then `await prompt(...)` and `async for step in session`.

    The wrapped session is `session`; its properties (tokens, text, finish_reason, statistics) may be read at any time
    between awaits.
    """

    def __init__(
        self,
        server: AnAddress | Sequence[AnAddress] = DEFAULT_SERVER,
        draft: DraftEngine | str | Path | None = None,
        params: SamplingParams | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        self._open = lambda: Session(server, draft, params, **options)
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            raise RuntimeError("open the session first: `async with AsyncSession(...) as session:`")
        return self._session

    @property
    def finished(self) -> bool:
        return self.session.finished

    async def prompt(self, prompt: str | Sequence[int]) -> None:
        """As `Session.prompt`."""
        await asyncio.to_thread(self.session.prompt, prompt)

    async def append(self, text: str | Sequence[int], max_new_tokens: int | None = None) -> None:
        """As `Session.append`."""
        await asyncio.to_thread(self.session.append, text, max_new_tokens)

    def cancel(self) -> None:
        """As `Session.cancel`."""
        self.session.cancel()

    async def step(self, timeout_s: float | None = None) -> Step:
        """As `Session.step`: work until something is committed, or the time has passed."""
        session = self.session
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (step := session.collect()) is None:
            if await asyncio.to_thread(session.draft_once):
                continue
            readable = await _readable(session.fileno(), session.wait_s(deadline_s))
            if not readable and deadline_s is not None and time.monotonic() >= deadline_s:
                return session.snapshot()
        return step

    async def __aiter__(self) -> AsyncIterator[Step]:
        while not self.finished:
            yield await self.step()

    async def __aenter__(self) -> AsyncSession:
        self._session = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.session.close()


async def _readable(descriptor: int, timeout_s: float | None) -> bool:
    """Wait until the link has something for us; False when the time has passed."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def arrived() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, arrived)
    try:
        await asyncio.wait_for(ready, timeout_s)
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True
