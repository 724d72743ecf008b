"""One session turned by the event loop: the draft runs in the drafting thread, everything else here.

All sessions share the drafting thread. It takes their runs in the order in which they came: none waits for more than
one run of each other session.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from edgespec.edge.session import Session
from edgespec.edge.step import Step

Result = TypeVar("Result")


async def steps(session: Session, drafting: Executor | None) -> AsyncGenerator[Step, None]:
    """The session's steps until its text is finished. A cancellation takes effect between two runs of the draft.
    drafting: None: the session has no draft, and saves the way to another thread."""
    loop = asyncio.get_running_loop()
    while not session.finished:
        if (step := session.collect()) is not None:
            yield step
        elif drafting is None or not await settled(loop.run_in_executor(drafting, session.draft_once)):
            await _arrival(session.fileno(), session.wait_s(None))


async def settled(work: asyncio.Future[Result]) -> Result:
    """The work's result. A cancellation waits until the work is done: another thread uses the session meanwhile."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _arrival(descriptor: int, timeout_s: float | None) -> None:
    """Wait until the link has something for the session, or until the time has passed."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    timer = None if timeout_s is None else loop.call_later(timeout_s, wake)
    loop.add_reader(descriptor, wake)
    try:
        await woken
    finally:
        loop.remove_reader(descriptor)
        if timer is not None:
            timer.cancel()


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run what takes long in a thread of its own."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
