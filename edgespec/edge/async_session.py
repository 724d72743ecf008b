"""The asyncio twin of `Session`: the same loop, turned by an event loop. Drafting runs in a worker thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

from edgespec.edge.session import Session
from edgespec.edge.step import Step


class AsyncSession:
    """Takes what `Session` takes; use it with `async with`, then `await prompt(...)` and `async for step in session`.

    The wrapped session is `session`; its properties (tokens, text, finish_reason, statistics) may be read at any time
    between awaits.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._arguments = arguments
        self._options = options
        self._opened: Session | None = None

    @property
    def session(self) -> Session:
        if self._opened is None:
            raise RuntimeError("open the session first: `async with AsyncSession(...) as session:`")
        return self._opened

    @property
    def finished(self) -> bool:
        return self.session.finished

    async def prompt(self, prompt: str | Sequence[int]) -> None:
        await asyncio.to_thread(self.session.prompt, prompt)

    async def append(self, text: str | Sequence[int], max_new_tokens: int | None = None) -> None:
        await asyncio.to_thread(self.session.append, text, max_new_tokens)

    def cancel(self) -> None:
        self.session.cancel()

    async def step(self, timeout_s: float | None = None) -> Step:
        """As `Session.step`: work until something is committed, or the time has passed."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (step := self.session.collect()) is None:
            if await asyncio.to_thread(self.session.draft_piece):
                continue
            readable = await _readable(self.session.fileno(), self.session.wait_s(deadline_s))
            if not readable and deadline_s is not None and time.monotonic() >= deadline_s:
                return self.session.idle_step()
        return step

    async def __aiter__(self) -> AsyncIterator[Step]:
        while not self.finished:
            yield await self.step()

    async def __aenter__(self) -> AsyncSession:
        self._opened = await asyncio.to_thread(Session, *self._arguments, **self._options)
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
