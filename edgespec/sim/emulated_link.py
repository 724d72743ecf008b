"""An emulated link: a delaying proxy on loopback that stands between edge and server and keeps byte order.

Each way takes half the round trip, plus or minus some jitter, after the bytes have passed a line of limited rate that
all connections share. The bytes under way are bounded: a sender faster than the line has to wait, as with TCP.
Opening a connection costs nothing; only bytes are delayed. A lost piece comes after it was sent again, and holds up
what follows it on its connection, as with TCP.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import deque
from dataclasses import dataclass

from edgespec.core.errors import EdgespecError

READ_BYTES = 4096
"""Bytes taken in at once; they pass the line together."""
UNDER_WAY_BYTES = 1 << 20
"""Bytes that may be under way in one direction of one connection, if the line's rate does not ask for more."""
TIMER_S = 0.001
"""asyncio rounds its timers up to a millisecond: the last one is passed by yielding."""


@dataclass(frozen=True)
class LinkShape:
    """What the link is like: round trip (ms), jitter (the round trip varies by up to this much, ms), rate (megabits a
    second each way; None: unlimited), and the seed that jitter and losses are drawn from. loss_percent: of the pieces,
    those that are lost once; retransmit_ms: until such a piece is sent again (200 is the least that Linux takes)."""

    rtt_ms: float = 0.0
    jitter_ms: float = 0.0
    mbps: float | None = None
    seed: int = 0
    loss_percent: float = 0.0
    retransmit_ms: float = 200.0

    def __post_init__(self) -> None:
        if not 0 <= self.rtt_ms <= 60_000:
            raise EdgespecError(f"a round trip must take 0 to 60000 ms, not {self.rtt_ms:g}.")
        if not 0 <= self.jitter_ms <= self.rtt_ms:
            raise EdgespecError(
                f"jitter must lie between 0 and the round trip ({self.rtt_ms:g} ms): {self.jitter_ms:g}."
            )
        if self.mbps is not None and not 0 < self.mbps <= 1e6:
            raise EdgespecError(
                f"a link's rate must be above 0 and at most 1000000 Mbit/s, not {self.mbps:g}."
            )
        if not 0 <= self.loss_percent < 100:
            raise EdgespecError(f"a link may lose 0 to less than 100 percent, not {self.loss_percent:g}.")
        if not 0 <= self.retransmit_ms <= 60_000:
            raise EdgespecError(f"sending again must take 0 to 60000 ms, not {self.retransmit_ms:g}.")

    @property
    def under_way_bytes(self) -> int:
        """Twice what the line itself holds, and no less than UNDER_WAY_BYTES."""
        on_the_line = 0.0 if self.mbps is None else self.mbps * 1e6 / 8 * (self.rtt_ms + self.jitter_ms) / 1e3
        return max(UNDER_WAY_BYTES, round(2 * on_the_line))


class Clock:
    """The event loop's, in seconds."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep_until(self, time_s: float) -> None:
        rest_s = time_s - self.now_s()
        if rest_s > TIMER_S:
            await asyncio.sleep(rest_s - TIMER_S)
        while self.now_s() < time_s:
            await asyncio.sleep(0)


class Line:
    """One direction of the link, shared by all connections: says when bytes that enter now come out."""

    def __init__(self, shape: LinkShape, direction: str) -> None:
        self._shape = shape
        self._jitter = random.Random(f"{shape.seed} {direction}")
        self._losses = random.Random(f"{shape.seed} {direction} losses")
        self._free_s = 0.0

    def arrival_s(self, now_s: float, size: int) -> float:
        """When `size` bytes that enter the line at `now_s` have come out at its other end."""
        self._free_s = max(now_s, self._free_s)
        if self._shape.mbps is not None:
            self._free_s += size * 8 / (self._shape.mbps * 1e6)
        jitter_ms = self._jitter.uniform(-0.5, 0.5) * self._shape.jitter_ms
        lost = self._losses.random() * 100 < self._shape.loss_percent
        again_ms = self._shape.retransmit_ms if lost else 0.0
        return self._free_s + (self._shape.rtt_ms / 2 + jitter_ms + again_ms) / 1e3


class Pipe:
    """One direction of one connection: bytes come out in the order they went in, each piece when it is due."""

    def __init__(self, line: Line, clock: Clock, under_way_bytes: int) -> None:
        self._line = line
        self._clock = clock
        self._room = under_way_bytes
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._last_s = 0.0
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """Take bytes in (none: the end); waits while too much is under way."""
        self._last_s = max(self._last_s, self._line.arrival_s(self._clock.now_s(), len(data)))
        async with self._changed:
            self._pieces.append((self._last_s, data))
            self._room -= len(data)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._room > 0)

    async def get(self) -> bytes:
        """The next bytes, once they are due; none: the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._pieces))
        due_s, data = self._pieces[0]
        await self._clock.sleep_until(due_s)
        async with self._changed:
            self._pieces.popleft()
            self._room += len(data)
            self._changed.notify_all()
        return data

    async def fill(self, reader: asyncio.StreamReader) -> None:
        """Take in what one end sends, its end of stream included."""
        while data := await reader.read(READ_BYTES):
            await self.put(data)
        await self.put(b"")

    async def empty(self, writer: asyncio.StreamWriter) -> None:
        """Give it to the other end; the end of stream closes this direction only."""
        while data := await self.get():
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class Link:
    """The proxy: `await start()`, then `port`; `await close()` ends it and its connections.

    source: the address from which the server sees its connections come; None: the system's choice.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        to: tuple[str, int],
        shape: LinkShape,
        clock: Clock | None = None,
        *,
        source: str | None = None,
    ) -> None:
        self._listen = listen
        self._to = to
        self._from = None if source is None else (source, 0)
        self._shape = shape
        self._clock = clock or Clock()
        self._up = Line(shape, "up")
        self._down = Line(shape, "down")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "start the link first"
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises EdgespecError where the address cannot be had."""
        host, port = self._listen
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=READ_BYTES)
        except OSError as error:
            raise EdgespecError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --listen."
            ) from None

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # one side broke off, or the link ends: so does the connection
        finally:
            writer.close()
            self._connections.discard(task)

    async def _carry(self, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        """Carry one connection until both ends have closed it; raises as soon as one of them breaks off."""
        host, port = self._to
        try:
            far_reader, far_writer = await asyncio.open_connection(
                host, port, limit=READ_BYTES, local_addr=self._from
            )
        except OSError as error:
            print(f"edgespec: link: cannot reach {host}:{port} ({error})", file=sys.stderr, flush=True)
            raise
        up, down = (Pipe(line, self._clock, self._shape.under_way_bytes) for line in (self._up, self._down))
        works = (up.fill(near_reader), up.empty(far_writer), down.fill(far_reader), down.empty(near_writer))
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            far_writer.transport.abort()
            raise
        finally:
            for task in tasks:
                task.cancel()
            far_writer.close()
