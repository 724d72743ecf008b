"""64 bytes to and fro over loopback, in several ways: each a server that echoes and a caller that times round trips.

The caller of edgespec's own link sends a BLOCK of four nodes and has the answer when it holds a numpy view of a
VERDICT's tokens; everybody else sends 64 bytes and has the answer when it holds 64. benchmarks/wire.py compares them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection as ProcessPipe
from pathlib import Path
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.edge.opening import encoded_open
from edgespec.server.private_authority import issue_for_server, make_authority

BYTES = 64
HOST = "127.0.0.1"
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Echo:
    """serve(folder, pipe): sends its port, then echoes until killed. call(folder, port, count): nanoseconds.

    spins: needs more than one core, and is compared with the spinning floor."""

    name: str
    serve: Callable[[Path, ProcessPipe], None]
    call: Callable[[Path, int, int], list[int]]
    spins: bool = False


def available(folder: Path) -> list[Echo]:
    """Those that can run here, with what they need put into the folder; the floor comes first."""
    if shutil.which("g++") is not None:
        source = Path(__file__).with_name("raw_echo.cpp")
        subprocess.run(["g++", "-O2", "-o", str(folder / "raw_echo"), str(source)], check=True)
    tls = _native.HAVE_TLS and shutil.which("openssl") is not None
    if tls:
        make_authority(folder / "fleet")
        issue_for_server(folder / "fleet", [HOST], 30)
    raw = (folder / "raw_echo").exists()
    echoes = [
        (raw, Echo("raw epoll, C++", _serve_raw, _call_raw)),
        (True, Echo("edgespec", _serve_edgespec, _call_edgespec)),
        (tls, Echo("edgespec, TLS", partial(_serve_edgespec, tls=True), partial(_call_edgespec, tls=True))),
        (True, Echo("asyncio streams", _serve_streams, _call_streams)),
        (importlib.util.find_spec("zmq") is not None, Echo("pyzmq", _serve_zmq, _call_zmq)),
        (raw, Echo("raw spinning, C++", partial(_serve_raw, spin=True), partial(_call_raw, spin=True), spins=True)),
        (raw, Echo("edgespec, busy-spin", partial(_serve_edgespec, spin=True), partial(_call_edgespec, spin=True),
                   spins=True)),
    ]  # fmt: skip
    return [echo for can_run, echo in echoes if can_run]


def _timed(count: int, round_trip: Callable[[], object]) -> list[int]:
    times = []
    for _ in range(count):
        start_ns = time.perf_counter_ns()
        round_trip()
        times.append(time.perf_counter_ns() - start_ns)
    return times


def _serve_raw(folder: Path, pipe: ProcessPipe, spin: bool = False) -> None:
    command = [folder / "raw_echo", "serve", *["spin"] * spin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pipe.send(int(process.stdout.readline()))


def _call_raw(folder: Path, port: int, count: int, spin: bool = False) -> list[int]:
    command = [folder / "raw_echo", "call", str(port), str(count), *["spin"] * spin]
    return [int(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.split()]


def _serve_edgespec(folder: Path, pipe: ProcessPipe, tls: bool = False, spin: bool = False) -> None:
    certificate = [str(folder / "fleet" / name) for name in ("server.pem", "server.key")]
    listener = _native.Listener(
        HOST, 0, tls=_native.Tls.server(*certificate) if tls else None, busy_spin=spin
    )
    pipe.send(listener.port)
    verdict = _native.encode_verdict(
        channel=1, base_length=1, tokens=np.arange(6, dtype=np.int32), logprobs=None,
        finish=_native.FinishReason.NONE, forwards=1, rows=1, forward_us=1, clock_us=1, turn=0,
    )  # fmt: skip
    assert len(verdict) == BYTES
    welcome = _native.encode_welcome(
        version=1, hosts_draft=False, vocabulary_hash=bytes(32), context_length=64, vocabulary_size=64, layers=1,
        exit_layers=[], end_tokens=[], target_id="echo", max_frame_bytes=65536, max_block_nodes=64,
    )  # fmt: skip
    while True:
        for number, message in listener.poll(None):
            if isinstance(message, _native.Block):
                listener.send(number, verdict)
            elif isinstance(message, _native.Hello):
                listener.welcome(number, welcome, b"")


def _call_edgespec(folder: Path, port: int, count: int, tls: bool = False, spin: bool = False) -> list[int]:
    authority = str(folder / "fleet" / "ca.pem")
    encryption = _native.Tls.client(authority) if tls else None
    hello = _native.encode_hello(vocabulary_hash=bytes(32), agent="benchmark")
    connection = _native.ResilientConnection(
        [(HOST, port)], hello, hedge=False, tls=encryption, busy_spin=spin
    )
    connection.open(encoded_open(SamplingParams(), 1, ServerOptions(), [1], 1))
    assert isinstance(connection.receive(TIMEOUT_S), _native.Welcome)
    parents = np.full(4, _native.COMMITTED_BIT | 3, dtype=np.uint32)
    probabilities = np.full(4, 200, dtype=np.uint8)
    block = _native.encode_block(1, 1, np.arange(4, dtype=np.int32), parents, probabilities)
    assert len(block) == BYTES

    def round_trip() -> None:
        connection.send(block)
        answer: Any = connection.receive(TIMEOUT_S)
        assert len(answer.tokens) == 6

    return _timed(count, round_trip)


def _serve_streams(folder: Path, pipe: ProcessPipe) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(BYTES))

    async def run() -> None:
        server = await asyncio.start_server(echo, HOST, 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def _call_streams(folder: Path, port: int, count: int) -> list[int]:
    async def run() -> list[int]:
        reader, writer = await asyncio.open_connection(HOST, port)
        times = []
        for _ in range(count):
            start_ns = time.perf_counter_ns()
            writer.write(bytes(BYTES))
            await reader.readexactly(BYTES)
            times.append(time.perf_counter_ns() - start_ns)
        writer.close()
        return times

    return asyncio.run(run())


def _serve_zmq(folder: Path, pipe: ProcessPipe) -> None:
    zmq: Any = import_module("zmq")
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    pipe.send(socket.bind_to_random_port(f"tcp://{HOST}"))
    while True:
        socket.send_multipart(socket.recv_multipart())


def _call_zmq(folder: Path, port: int, count: int) -> list[int]:
    zmq: Any = import_module("zmq")
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(f"tcp://{HOST}:{port}")
    return _timed(count, lambda: (socket.send(bytes(BYTES)), socket.recv()))
