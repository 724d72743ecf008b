"""A TCP proxy that does to connections what networks do: delays, stalls, cuts, black holes, outages.

It runs in a thread of its own. What happens to a connection by itself is said by a `Fault`, counted in bytes, so that
it strikes in the middle of a frame at the same place each time; what happens to all of them is called by the test.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

Direction = Literal["up", "down"]
Kind = Literal["cut", "close", "freeze"]
"""cut: both ends get a reset. close: both get an end of stream. freeze: it stays open and nothing passes any more."""


@dataclass(frozen=True)
class Fault:
    """What happens to a connection once `after_bytes` have passed in one direction."""

    after_bytes: int
    kind: Kind = "cut"
    direction: Direction = "up"


def random_faults(seed: int, count: int, most_bytes: int = 4000) -> list[Fault]:
    """A fault for each of the first `count` connections; from then on they hold."""
    draw = random.Random(seed)
    kinds: tuple[Kind, ...] = ("cut", "close", "freeze")
    return [
        Fault(draw.randrange(most_bytes), draw.choice(kinds), draw.choice(("up", "down")))
        for _ in range(count)
    ]


class _Passage:
    """One connection through the proxy."""

    def __init__(
        self, number: int, near: asyncio.StreamWriter, far: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        self.number = number
        self.ends = (near, far)
        self.fault = fault
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.flows: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        for flow in self.flows.values():
            flow.set()
        self.frozen = False

    def befall(self, kind: Kind) -> None:
        if kind == "freeze":
            self.frozen = True
            return
        for writer in self.ends:
            if kind == "cut":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Stands before the server on 127.0.0.1:`port_behind`; a context manager. choose: gives each connection's.

    faults: one for each connection in the order they come, then none. delay_s, jitter_s: of every piece, one way.
    """

    def __init__(
        self,
        port_behind: int,
        faults: Iterable[Fault | None] = (),
        *,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.port = 0
        self.connections = 0
        self.choose: Callable[[], int] = lambda: port_behind
        self._faults = iter(faults)
        self.delay_s = delay_s
        self._jitter_s = jitter_s
        self._random = random.Random(seed)
        self._outage: Literal["refuse", "swallow"] | None = None
        self._passages: list[_Passage] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults")

    # What a test calls

    def cut(self, which: int | None = None) -> None:
        """Reset every connection, or the one of that number, counted from the oldest that is open (-1: the newest)."""
        self._each(lambda passage: passage.befall("cut"), which)

    def freeze(self, which: int | None = None) -> None:
        """From now on nothing passes, and neither end is told."""
        self._each(lambda passage: passage.befall("freeze"), which)

    def stall(self, which: int | None = None, directions: Iterable[Direction] = ("up", "down")) -> None:
        """Hold every byte until `flow`."""
        held = tuple(directions)
        self._each(lambda passage: [passage.flows[direction].clear() for direction in held], which)

    def flow(self) -> None:
        self._each(lambda passage: [flow.set() for flow in passage.flows.values()], None)

    def outage(self, how: Literal["refuse", "swallow"] = "refuse") -> None:
        """Every connection freezes; new ones are reset, or accepted and left without an answer, until `recover`."""
        self._do(lambda: setattr(self, "_outage", how))
        self._each(lambda passage: passage.befall("freeze" if how == "swallow" else "cut"), None)

    def recover(self) -> None:
        self._do(lambda: setattr(self, "_outage", None))

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # On the proxy's thread

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # what was accepted already begins
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number, fault = self.connections, next(self._faults, None)
        try:
            if self._outage == "swallow":
                await reader.read()
            elif self._outage is None:
                await self._carry(reader, writer, number, fault)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, fault: Fault | None
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.choose())
        passage = _Passage(number, writer, far_writer, fault)
        self._passages = sorted([*self._passages, passage], key=lambda one: one.number)
        up = asyncio.ensure_future(self._pass("up", passage, reader, far_writer))
        down = asyncio.ensure_future(self._pass("down", passage, far_reader, writer))
        try:
            await asyncio.gather(up, down)
        finally:
            up.cancel()
            down.cancel()
            self._passages.remove(passage)
            far_writer.transport.abort()

    async def _pass(
        self,
        direction: Direction,
        passage: _Passage,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(4096):
            if self.delay_s:
                await asyncio.sleep(self.delay_s + self._random.random() * self._jitter_s)
            await passage.flows[direction].wait()
            if passage.frozen:
                continue
            fault = passage.fault
            strikes = fault is not None and fault.direction == direction
            left = fault.after_bytes - passage.passed[direction] if fault and strikes else len(data)
            passage.passed[direction] += len(data)
            writer.write(data[: max(0, left)])
            await writer.drain()
            if fault and left < len(data):
                passage.befall(fault.kind)
        if not passage.frozen:
            writer.write_eof()

    def _each(self, do: Callable[[_Passage], object], which: int | None) -> None:
        def run() -> None:
            for passage in list(self._passages) if which is None else [self._passages[which]]:
                do(passage)

        self._do(run)

    def _do(self, do: Callable[[], None]) -> None:
        async def run() -> None:
            do()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(10)
