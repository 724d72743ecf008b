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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.connection import Connection as ProcessPipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.server.private_authority import issue_for_server, make_authority

BYTES = 64
HOST = "127.0.0.1"
PATIENT_S = 60.0
HASH = bytes(32)


@dataclass(frozen=True)
class Echo:
    """serve(folder, tell): tells its port, then echoes until killed. call(folder, port, count): nanoseconds."""

    name: str
    serve: Callable[[Path, ProcessPipe], None]
    call: Callable[[Path, int, int], list[int]]
    spins: bool = False  # needs more than one core, and is compared with the spinning floor


def prepare(folder: Path) -> None:
    """What the echoes need in a folder: the floor's program, certificates."""
    source = Path(__file__).with_name("raw_echo.cpp")
    if shutil.which("g++") is not None:
        subprocess.run(["g++", "-O2", "-o", str(folder / "raw_echo"), str(source)], check=True)
    if _native.HAVE_TLS and shutil.which("openssl") is not None:
        make_authority(folder / "fleet")
        issue_for_server(folder / "fleet", [HOST], 30)


def available(folder: Path) -> list[Echo]:
    """Those that can run here; the floor comes first."""
    echoes = [RAW] if (folder / "raw_echo").exists() else []
    echoes.append(EDGESPEC)
    if (folder / "fleet").exists():
        echoes.append(EDGESPEC_TLS)
    echoes.append(STREAMS)
    if importlib.util.find_spec("zmq") is not None:
        echoes.append(ZMQ)
    if importlib.util.find_spec("grpc") is not None:
        echoes.append(GRPC)
    if importlib.util.find_spec("websockets") is not None:
        echoes.append(WEBSOCKETS)
    if RAW in echoes:
        echoes += [RAW_SPINNING, EDGESPEC_SPINNING]
    return echoes


def versions() -> str:
    """Of the packages among them that are not ours."""
    names = ("pyzmq", "grpcio", "websockets")
    found = {name for one in metadata.distributions() if (name := one.metadata["Name"]) in names}
    return ", ".join(f"{name} {metadata.version(name)}" for name in names if name in found) + "."


# The floor


def _serve_raw(folder: Path, tell: ProcessPipe, *how: str) -> None:
    with subprocess.Popen([folder / "raw_echo", "serve", *how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        tell.send(int(process.stdout.readline()))


def _call_raw(folder: Path, port: int, count: int, *how: str) -> list[int]:
    command = [folder / "raw_echo", "call", str(port), str(count), *how]
    return [int(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.split()]


def _serve_raw_spinning(folder: Path, tell: ProcessPipe) -> None:
    _serve_raw(folder, tell, "spin")


def _call_raw_spinning(folder: Path, port: int, count: int) -> list[int]:
    return _call_raw(folder, port, count, "spin")


# edgespec


def _block() -> bytes:
    tokens = np.arange(4, dtype=np.int32)
    parents = np.full(4, _native.COMMITTED_BIT | 3, dtype=np.uint32)
    frame = _native.encode_block(1, 1, tokens, parents, np.full(4, 200, dtype=np.uint8))
    assert len(frame) == BYTES
    return frame


def _verdict() -> bytes:
    frame = _native.encode_verdict(
        channel=1,
        base_length=1,
        tokens=np.arange(6, dtype=np.int32),
        logprobs=None,
        finish=_native.FinishReason.NONE,
        forwards=1,
        rows=1,
        forward_us=1,
        clock_us=1,
        turn=0,
    )
    assert len(frame) == BYTES
    return frame


def _serve_edgespec(tls: _native.Tls | None, tell: ProcessPipe, busy_spin: bool = False) -> None:
    listener = _native.Listener(HOST, 0, tls=tls, busy_spin=busy_spin)
    tell.send(listener.port)
    verdict = _verdict()
    while True:
        for number, message in listener.poll(None):
            if isinstance(message, _native.Block):
                listener.send(number, verdict)


def _call_edgespec(tls: _native.Tls | None, port: int, count: int, busy_spin: bool = False) -> list[int]:
    connection = _native.Connection(HOST, port, PATIENT_S, tls=tls, busy_spin=busy_spin)
    connection.send(_native.encode_hello(vocabulary_hash=HASH, agent="benchmark"))
    block = _block()
    times = []
    for _ in range(count):
        start_ns = time.perf_counter_ns()
        connection.send(block)
        answer: Any = connection.receive(PATIENT_S)
        assert len(answer.tokens) == 6
        times.append(time.perf_counter_ns() - start_ns)
    return times


def _serve_plain(folder: Path, tell: ProcessPipe) -> None:
    _serve_edgespec(None, tell)


def _serve_spinning(folder: Path, tell: ProcessPipe) -> None:
    _serve_edgespec(None, tell, busy_spin=True)


def _call_plain(folder: Path, port: int, count: int) -> list[int]:
    return _call_edgespec(None, port, count)


def _call_spinning(folder: Path, port: int, count: int) -> list[int]:
    return _call_edgespec(None, port, count, busy_spin=True)


def _serve_tls(folder: Path, tell: ProcessPipe) -> None:
    fleet = folder / "fleet"
    _serve_edgespec(_native.Tls.server(str(fleet / "server.pem"), str(fleet / "server.key")), tell)


def _call_tls(folder: Path, port: int, count: int) -> list[int]:
    return _call_edgespec(_native.Tls.client(str(folder / "fleet" / "ca.pem")), port, count)


# asyncio's streams, ZeroMQ, gRPC, and WebSockets


def _serve_streams(folder: Path, tell: ProcessPipe) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(BYTES))

    async def run() -> None:
        server = await asyncio.start_server(echo, HOST, 0)
        tell.send(server.sockets[0].getsockname()[1])
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


def _zmq_socket(kind: str) -> Any:
    zmq: Any = importlib.import_module("zmq")
    socket = zmq.Context.instance().socket(getattr(zmq, kind))
    socket.linger = 0
    return socket


def _serve_zmq(folder: Path, tell: ProcessPipe) -> None:
    socket = _zmq_socket("ROUTER")
    tell.send(socket.bind_to_random_port(f"tcp://{HOST}"))
    while True:
        socket.send_multipart(socket.recv_multipart())


def _call_zmq(folder: Path, port: int, count: int) -> list[int]:
    socket = _zmq_socket("DEALER")
    socket.connect(f"tcp://{HOST}:{port}")
    times = []
    for _ in range(count):
        start_ns = time.perf_counter_ns()
        socket.send(bytes(BYTES))
        socket.recv()
        times.append(time.perf_counter_ns() - start_ns)
    return times


def _serve_grpc(folder: Path, tell: ProcessPipe) -> None:
    grpc: Any = importlib.import_module("grpc")
    handler = grpc.stream_stream_rpc_method_handler(lambda messages, context: messages)  # bytes, no protobuf
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"echo": handler}),))
    tell.send(server.add_insecure_port(f"{HOST}:0"))
    server.start()
    server.wait_for_termination()


def _call_grpc(folder: Path, port: int, count: int) -> list[int]:
    """One stream for all round trips."""
    grpc: Any = importlib.import_module("grpc")
    times = []
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        incoming = channel.stream_stream("/Echo/echo")(iter(outgoing.get, None), wait_for_ready=True)
        for _ in range(count):
            start_ns = time.perf_counter_ns()
            outgoing.put(bytes(BYTES))
            next(incoming)
            times.append(time.perf_counter_ns() - start_ns)
        outgoing.put(None)
    return times


def _serve_websockets(folder: Path, tell: ProcessPipe) -> None:
    websockets: Any = importlib.import_module("websockets")

    async def echo(socket: Any) -> None:
        with suppress(websockets.ConnectionClosed):
            while True:
                await socket.send(await socket.recv())

    async def run() -> None:
        async with websockets.serve(echo, HOST, 0, compression=None) as server:
            tell.send(server.sockets[0].getsockname()[1])
            await server.wait_closed()

    asyncio.run(run())


def _call_websockets(folder: Path, port: int, count: int) -> list[int]:
    websockets: Any = importlib.import_module("websockets")

    async def run() -> list[int]:
        times = []
        async with websockets.connect(f"ws://{HOST}:{port}", compression=None) as socket:
            for _ in range(count):
                start_ns = time.perf_counter_ns()
                await socket.send(bytes(BYTES))
                assert len(await socket.recv()) == BYTES
                times.append(time.perf_counter_ns() - start_ns)
        return times

    return asyncio.run(run())


RAW = Echo("raw epoll, C++", _serve_raw, _call_raw)
RAW_SPINNING = Echo("raw spinning, C++", _serve_raw_spinning, _call_raw_spinning, spins=True)
EDGESPEC = Echo("edgespec", _serve_plain, _call_plain)
EDGESPEC_TLS = Echo("edgespec, TLS", _serve_tls, _call_tls)
EDGESPEC_SPINNING = Echo("edgespec, busy-spin", _serve_spinning, _call_spinning, spins=True)
STREAMS = Echo("asyncio streams", _serve_streams, _call_streams)
ZMQ = Echo("pyzmq", _serve_zmq, _call_zmq)
GRPC = Echo("grpc, one stream", _serve_grpc, _call_grpc)
WEBSOCKETS = Echo("websockets, asyncio", _serve_websockets, _call_websockets)
