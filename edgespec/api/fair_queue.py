"""Who is served next: at most `running` texts run at once, and those that wait are taken one client after another.

A client that sends a hundred requests so delays its own, not those of the others. Pure asyncio; one event loop.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgespec.api.errors import ApiError

RETRY_AFTER_S = 2


class FairQueue:
    """running: texts at once, at most; waiting: requests that may wait for their turn, further ones are refused."""

    def __init__(self, running: int, waiting: int) -> None:
        self._most_running = running
        self._most_waiting = waiting
        self.running = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for this client's turn, and hold it. Raises ApiError 429 where too many wait already."""
        if self.running < self._most_running:
            self.running += 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, client: str) -> None:
        if self.waiting >= self._most_waiting:
            raise ApiError(
                429,
                f"{self.running} texts are being written and {self.waiting} requests wait: try again later.",
                code="rate_limit_exceeded",
                retry_after_s=RETRY_AFTER_S,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._forget(client, turn)
            raise

    def _leave(self) -> None:
        """Hand the place on to the client that has waited longest since its last turn."""
        while self._waiting:
            client, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            del self._waiting[client]
            if turns:
                self._waiting[client] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[client]
