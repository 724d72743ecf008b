"""The asyncio twin of `Session`: the same loop, turned by an event loop. Drafting runs in a worker thread."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec

from edgespec.edge.prompt import Prompt
from edgespec.edge.session import Session
from edgespec.edge.step import Step

P = ParamSpec("P")


def _takes_what(kind: Callable[P, Any]) -> Callable[[Any], Callable[Concatenate["AsyncSession", P], None]]:
    """A constructor's decorator: its parameters are those of `kind`, for type checkers as well."""
    return functools.wraps(kind.__init__)


class AsyncSession:
    """Takes what `Session` takes; use it with `async with`, then `await prompt(...)` and `async for step in session`.

    The wrapped session is `session`; its properties (tokens, text, finish_reason, statistics) may be read at any time
    between awaits.
    """

    @_takes_what(Session)
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._open = functools.partial(Session, *arguments, **options)
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            raise RuntimeError("open the session first: `async with AsyncSession(...) as session:`")
        return self._session

    @property
    def finished(self) -> bool:
        return self.session.finished

    async def prompt(self, prompt: Prompt) -> None:
        """As `Session.prompt`."""
        await asyncio.to_thread(self.session.prompt, prompt)

    async def append(self, text: Prompt, max_new_tokens: int | None = None) -> None:
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

    async def __aenter__(self) -> "AsyncSession":
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
