"""The emulated link: every byte arrives, in order, no sooner than it may; ends and broken connections pass through.

Times are those of a virtual clock that jumps to where a pipe wants to sleep to: nothing here measures real time.
"""

import asyncio
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import has_ipv6

from edgespec.cli.child import child
from edgespec.core.address import parse_address
from edgespec.core.errors import EdgespecError
from edgespec.sim.emulated_link import Clock, Line, Link, LinkShape, Pipe

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class VirtualClock(Clock):
    """Sleeping takes no time and sets the clock."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.slept_until: list[float] = []

    def now_s(self) -> float:
        return self.time_s

    async def sleep_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)
        self.slept_until.append(time_s)


def carry(shape: LinkShape, pieces: list[tuple[float, int]]) -> list[tuple[float, float]]:
    """Put pieces (time in s, bytes) into a pipe and take them out: (time in, time out) of each."""

    async def run() -> list[tuple[float, float]]:
        clock = VirtualClock()
        pipe = Pipe(Line(shape, "up"), clock, 1 << 30)
        for time_s, size in pieces:
            clock.time_s = time_s
            await pipe.put(b"x" * size)
        times = []
        for time_s, size in pieces:
            assert len(await pipe.get()) == size
            times.append((time_s, clock.slept_until[-1]))
        return times

    return asyncio.run(run())


def test_the_server_sees_connections_come_from_the_links_source() -> None:
    async def run() -> str:
        seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _, writer: seen.set_result(writer.get_extra_info("peername")[0]), "127.0.0.1", 0
        )
        link = Link(("127.0.0.1", 0), server.sockets[0].getsockname(), LinkShape(), source="127.0.1.7")
        await link.start()
        _, writer = await asyncio.open_connection("127.0.0.1", link.port)
        source = await asyncio.wait_for(seen, 10)
        writer.close()
        await link.close()
        server.close()
        return source

    assert asyncio.run(run()) == "127.0.1.7"


@given(
    st.floats(0, 500),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5000)), min_size=1, max_size=20),
)
def test_pieces_keep_their_order_and_their_delay(
    rtt_ms: float, share: float, gaps: list[tuple[float, int]]
) -> None:
    pieces, time_s = [], 0.0
    for gap_s, size in gaps:
        time_s += gap_s
        pieces.append((time_s, size))
    jitter_ms = rtt_ms * share
    times = carry(LinkShape(rtt_ms=rtt_ms, jitter_ms=jitter_ms), pieces)
    latest_s = 0.0
    for entered_s, left_s in times:
        latest_s = max(latest_s, entered_s + (rtt_ms + jitter_ms) / 2e3)
        assert entered_s + (rtt_ms - jitter_ms) / 2e3 - 1e-9 <= left_s <= latest_s + 1e-9
    assert [left for _, left in times] == sorted(left for _, left in times)


def test_without_jitter_every_piece_takes_half_the_round_trip() -> None:
    times = carry(LinkShape(rtt_ms=40), [(0.0, 10), (1.0, 100_000), (1.0, 10)])
    assert [left - entered for entered, left in times] == pytest.approx([0.02, 0.02, 0.02])


def test_a_narrow_line_takes_pieces_one_after_another() -> None:
    times = carry(LinkShape(rtt_ms=20, mbps=1.0), [(0.0, 1250), (0.0, 1250), (1.0, 1250)])
    assert [left for _, left in times] == pytest.approx([0.02, 0.03, 1.02])


def test_connections_share_the_line() -> None:
    line = Line(LinkShape(mbps=1.0), "up")
    assert [line.arrival_s(0.0, 1250) for _ in range(3)] == pytest.approx([0.01, 0.02, 0.03])


def test_jitter_is_the_seeds() -> None:
    pieces = [(float(i), 10) for i in range(20)]
    first, again, other = (carry(LinkShape(rtt_ms=50, jitter_ms=20, seed=seed), pieces) for seed in (1, 1, 2))
    assert first == again != other


def test_a_lost_piece_comes_later_and_holds_up_what_follows() -> None:
    pieces = [(float(i), 10) for i in range(300)]
    times = carry(LinkShape(rtt_ms=40, loss_percent=10, retransmit_ms=200, seed=3), pieces)
    delays = [left - entered for entered, left in times]
    late = [delay for delay in delays if delay > 0.03]
    assert late == pytest.approx([0.22] * len(late)) and 15 <= len(late) <= 45
    (_, first), (_, second) = carry(LinkShape(loss_percent=99.9, seed=1), [(0.0, 10), (0.001, 10)])
    assert first == pytest.approx(0.2) and second >= first


def test_a_full_pipe_holds_its_sender_back() -> None:
    async def run() -> None:
        pipe = Pipe(Line(LinkShape(), "up"), VirtualClock(), under_way_bytes=100)
        await pipe.put(b"x" * 60)
        held = asyncio.ensure_future(pipe.put(b"y" * 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not held.done()
        assert await pipe.get() == b"x" * 60
        await held

    asyncio.run(run())


@asynccontextmanager
async def linked(handler: Handler) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client connected through a link to a server that `handler` speaks for."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    link = Link(
        ("127.0.0.1", 0),
        server.sockets[0].getsockname()[:2],
        LinkShape(rtt_ms=2, jitter_ms=2),
        VirtualClock(),
    )
    await link.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await link.close()
        server.close()


def test_all_bytes_arrive_in_order_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def run() -> None:
        data = random.Random(0).randbytes(3_000_000)
        async with linked(echo) as (reader, writer):
            reading = asyncio.ensure_future(reader.readexactly(len(data)))
            writer.write(data)
            await writer.drain()
            assert await reading == data

    asyncio.run(asyncio.wait_for(run(), 30))


def test_an_end_of_stream_closes_one_direction_only() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        writer.close()

    async def run() -> None:
        async with linked(answer_at_the_end) as (reader, writer):
            writer.write(b"all of it")
            writer.write_eof()
            assert await reader.read() == b"got all of it"

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_connection_broken_at_the_far_end_breaks_at_the_near_end() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async def run() -> None:
        async with linked(break_off) as (reader, writer):
            writer.write(b"x")
            with suppress(ConnectionError):
                assert await reader.read() == b""

    asyncio.run(asyncio.wait_for(run(), 30))


def test_with_nothing_behind_it_a_connection_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = unused.getsockname()

        async def run() -> None:
            link = Link(("127.0.0.1", 0), nowhere, LinkShape())
            await link.start()
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await link.close()

        asyncio.run(asyncio.wait_for(run(), 30))
    assert f"cannot reach 127.0.0.1:{nowhere[1]}" in capsys.readouterr().err


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_listens_and_ends_cleanly(signal_number: signal.Signals) -> None:
    flags = ["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--rtt-ms", "5"]
    command = [sys.executable, "-m", "edgespec", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("edgespec: link listening on 127.0.0.1:")
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_an_ipv6_address_is_printed_as_it_can_be_given_again() -> None:
    with child(["link", "--listen", "[::1]:0", "--to", "127.0.0.1:1", "--rtt-ms", "5"], "") as address:
        assert address == parse_address(str(address))
        assert str(address).startswith("[::1]:")


@pytest.mark.parametrize(
    "shape", [{"rtt_ms": -1}, {"rtt_ms": 10, "jitter_ms": 11}, {"mbps": 0}, {"rtt_ms": float("nan")}]
)
def test_a_link_that_cannot_be_is_refused(shape: dict[str, float]) -> None:
    with pytest.raises(EdgespecError):
        LinkShape(**shape)  # type: ignore[arg-type]
