"""Who is served next: at most `running` texts run at once. Those that wait are taken one address after another, and of
an address one user after another.

An address that sends a hundred requests so delays its own, not those of the others. It never has all places: a quarter
of them, and of the places to wait, is left to others. Which users an address names is its own affair: they share what
it has. Pure asyncio; one event loop.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgespec.api.errors import ApiError

RETRY_AFTER_S = 2

Turn = asyncio.Future[None]


class FairQueue:
    """running: texts at once, at most; waiting: requests that may wait for their turn, further ones are refused."""

    def __init__(self, running: int, waiting: int) -> None:
        self._most_running = running
        self._most_waiting = waiting
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[str, deque[Turn]]] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return sum(map(self._waiting_of, self._waiting))

    @asynccontextmanager
    async def turn(self, address: str, user: str = "") -> AsyncIterator[None]:
        """Wait for this user's turn, and hold it. Raises ApiError 429 where too many wait already."""
        if self._may_run(address):
            self._running[address] += 1
        else:
            await self._wait(address, user)
        try:
            yield
        finally:
            self._leave(address)

    def _may_run(self, address: str) -> bool:
        most = self._most_running
        return self.running < most and self._running[address] < _share(most)

    def _waiting_of(self, address: str) -> int:
        return sum(map(len, self._waiting.get(address, {}).values()))

    async def _wait(self, address: str, user: str) -> None:
        most = self._most_waiting
        if self.waiting >= most or self._waiting_of(address) >= _share(most):
            raise ApiError(
                429,
                f"{self.running} texts are being written and {self.waiting} requests wait: try again later.",
                code="rate_limit_exceeded",
                retry_after_s=RETRY_AFTER_S,
            )
        turn: Turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, OrderedDict()).setdefault(user, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(address)
            else:
                self._forget(address, user, turn)
            raise

    def _leave(self, address: str) -> None:
        """Hand the place on to the address, and of that to the user, that has waited longest since its last turn."""
        self._running[address] -= 1
        self._running += Counter()  # forgets those who have none
        while (following := next(filter(self._may_run, self._waiting), None)) is not None:
            turn = self._take(following)
            if not turn.done():
                self._running[following] += 1
                turn.set_result(None)
                return

    def _take(self, address: str) -> Turn:
        """The next turn of an address; the address and its user go behind the others."""
        users = self._waiting.pop(address)
        user, turns = users.popitem(last=False)
        turn = turns.popleft()
        if turns:
            users[user] = turns
        if users:
            self._waiting[address] = users
        return turn

    def _forget(self, address: str, user: str, turn: Turn) -> None:
        users = self._waiting.get(address, OrderedDict())
        if turn not in users.get(user, ()):
            return
        users[user].remove(turn)
        if not users[user]:
            del users[user]
        if not users:
            del self._waiting[address]


def _share(most: int) -> int:
    """What one address may have of this number of places."""
    return most - most // 4
