"""What an attack costs the honest: a tenth of all clients hostile, beside the same run without them.

python -m benchmarks.attack                        # 256 clients, 10,000 messages a second, 15 s a phase: two minutes
python -m benchmarks.attack --rate 2000 --seconds 10 --json attack.json

The real server and its loop with a stub target, tokens for every device, on the loopback and without TLS. Phases
without and with the attack take turns on one server. Honest clients are plain sockets: a block of one node on each
client's schedule, one out at a time; a round trip counts from when it was due. Server, honest and hostile are a
process each.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import select
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import raw_peer
from raw_peer import RawPeer
from stubs import VOCABULARY_HASH, StubTarget

from benchmarks.hostile import attack
from benchmarks.results import results, save
from edgespec.core.access import credential
from edgespec.model.target_engine import ForwardRequest
from edgespec.server.gate import ServerSecurity
from edgespec.server.server import Server
from edgespec.server.settings import ServerSettings
from edgespec.server.tokens import add_token

HOSTILE_SHARE = 0.1
MOST_RATIO = 2.0
BLOCKS_A_SESSION = 100
TOKEN = 7
ROOT = 1 << 31


def main() -> int:
    arguments = _arguments()
    hostile = round(arguments.clients * HOSTILE_SHARE)
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        shown = [credential(add_token(tokens, f"device-{i}")) for i in range(arguments.clients)]
        hellos = [raw_peer.hello(VOCABULARY_HASH, token) for token in shown]
        server, server_pipe = _start(serve, tokens)
        port = server_pipe.recv()
        rates = (arguments.rate * (1 - HOSTILE_SHARE), arguments.rate * HOSTILE_SHARE)
        good, good_pipe = _start(behave, port, hellos[hostile:], rates[0])
        bad, bad_pipe = _start(attack, port, hellos[:hostile], VOCABULARY_HASH, rates[1])
        good_pipe.recv()
        cells = []
        for phase in range(2 * arguments.pairs + 1):
            attacked = phase > 0 and phase % 2 == 0  # the first warms up and is not counted
            cell = _phase(psutil.Process(server.pid), good_pipe, bad_pipe if attacked else None, arguments)
            cells += [cell] if phase else []
        for process in (good, bad, server):
            process.terminate()
            process.join()
    _show(Console(), cells)
    if arguments.json:
        save(results("attack", cells, NOTES), arguments.json)
    return 0


NOTES = (
    "Stub target, loopback, no TLS; server, honest and hostile clients in a process each, on shared cores. Phases "
    "without and with the attack took turns on one server."
)


def _phase(
    server: psutil.Process, good: Connection, bad: Connection | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    before_s = time.monotonic()
    good.send(arguments.seconds)
    if bad is not None:
        bad.send(arguments.seconds)
    times_ms, lost = good.recv()
    done, connections = bad.recv() if bad is not None else ({}, 0)
    return {
        "attacked": bad is not None,
        "round_trips_a_second": len(times_ms) / (time.monotonic() - before_s),
        "p50_ms": float(np.percentile(times_ms, 50)),
        "p99_ms": float(np.percentile(times_ms, 99)),
        "honest_cut_off": lost,
        "hostile_acts": sum(done.values()),
        "hostile_connections": connections,
        "server_mib": server.memory_info().rss / 2**20,
        "acts": done,
    }


def _show(console: Console, cells: list[dict[str, Any]]) -> None:
    keys = [key for key in cells[0] if key != "acts"]
    table = Table(*keys)
    for cell in cells:
        table.add_row(
            *(f"{value:.1f}" if isinstance(value := cell[key], float) else str(value) for key in keys)
        )
    console.print(table)
    ratios = [
        attacked["p99_ms"] / alone["p99_ms"] for alone, attacked in zip(cells[::2], cells[1::2], strict=True)
    ]
    said = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    console.print(f"honest p99 under attack over p99 without: {said}; at most {MOST_RATIO:g} is asked for")


# The server


class EchoTarget(StubTarget):
    """Every next token is the same, and no text is kept."""

    def open_cache(self, capacity: int) -> Any:
        return SimpleNamespace(
            bytes=0,
            reserve=lambda slots: None,
            adopt=lambda tokens: 0,
            publish=lambda tokens: None,
            release=lambda: None,
        )

    def _forward(self, part: ForwardRequest) -> Any:
        tokens = np.full(len(part.decide), TOKEN, dtype=np.int32)
        zeros = np.zeros(len(part.decide), dtype=np.float32)
        return SimpleNamespace(tokens=tokens, logprobs=zeros, margins=zeros)


def serve(pipe: Connection, tokens: Path) -> None:
    target: Any = EchoTarget()
    settings = ServerSettings(security=ServerSecurity(tokens=tokens), max_sessions=4096)
    server = Server(target, port=0, settings=settings)
    threading.Thread(target=_trim, args=(target,), daemon=True).start()
    pipe.send(server.port)
    server.run()


def _trim(target: StubTarget) -> None:
    """The stub keeps a list of its forwards."""
    while True:
        time.sleep(1.0)
        target.forwards.clear()


# The honest


class Honest:
    """A session after the other on one connection: a block, its verdict, and so on."""

    def __init__(self, port: int, hello: bytes) -> None:
        self.peer = RawPeer(port)
        self.peer.send(hello)
        answer = self.peer.next()
        assert answer is not None and answer.kind == raw_peer.WELCOME
        self.due_s: float | None = None
        self._ids = itertools.count(1)
        self._name = hello[-8:]
        self._begin()

    def _begin(self) -> None:
        self._sequence, self._received, self._length = 1, 0, 3
        name = self._name + next(self._ids).to_bytes(8, "little")
        self._head = raw_peer.opening(1, name, [1, 2, 3], max_new_tokens=400, fill=False)

    def ask(self, due_s: float) -> None:
        if self._sequence > BLOCKS_A_SESSION:
            close = raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=1, sequence=self._sequence + 1)
            self._begin()
            self._head = close + self._head
        self._sequence += 1
        block = raw_peer.block(1, self._sequence, self._sequence, [TOKEN], [ROOT | self._length])
        block = block[:12] + self._received.to_bytes(4, "little") + block[16:]
        self.peer.socket.send(self._head + block)
        self._head = b""
        self.due_s = due_s

    def hear(self) -> float | None:
        """What came; when it is the verdict, the time at which its block was due."""
        self.peer._received += self.peer.socket.recv(1 << 16)
        found = None
        while (frame := self.peer._parse()) is not None:
            if frame.kind == raw_peer.VERDICT and self.due_s is not None and frame.sequence > self._received:
                self._received = frame.sequence
                self._length = int.from_bytes(frame.payload[:4], "little") + int.from_bytes(
                    frame.payload[20:22], "little"
                )
                found, self.due_s = self.due_s, None
            elif frame.kind == raw_peer.PING:
                self.peer.send(raw_peer.frame(raw_peer.PONG, frame.payload[:8] + bytes(8)))
            elif frame.kind == raw_peer.ERROR:
                raise ConnectionResetError(frame.payload[16:].decode())
        return found


def behave(pipe: Connection, port: int, hellos: list[bytes], rate: float) -> None:
    clients = {client.peer.socket.fileno(): client for client in (Honest(port, hello) for hello in hellos)}
    gc.freeze()
    pipe.send("ready")
    while seconds := pipe.recv():
        pipe.send(_behave(clients, len(clients) / rate, seconds))


def _behave(clients: dict[int, Honest], pause_s: float, seconds: float) -> tuple[list[float], int]:
    """Round trips in milliseconds; how many clients were cut off."""
    poll = select.epoll()
    for number in clients:
        poll.register(number, select.EPOLLIN)
    start_s = time.monotonic()
    due = {number: start_s + pause_s * i / len(clients) for i, number in enumerate(clients)}
    times_ms, lost = list[float](), 0
    while (now_s := time.monotonic()) < start_s + seconds:
        for number, client in clients.items():
            if client.due_s is None and due[number] <= now_s:
                client.ask(due[number])
                due[number] += pause_s
        for number, _ in poll.poll(0.001):
            try:
                asked_s = clients[number].hear()
            except OSError as error:
                print(f"an honest client was cut off: {error}", file=sys.stderr)
                poll.unregister(number)
                del clients[number]
                lost += 1
                continue
            if asked_s is not None:
                times_ms.append((time.monotonic() - asked_s) * 1e3)
    return times_ms, lost


def _start(work: Any, *arguments: Any) -> tuple[Any, Connection]:
    """A process that was not forked from one with threads, and the pipe to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    return process, ours


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument(
        "--rate", type=float, default=10_000, help="messages a second of all clients together"
    )
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--pairs", type=int, default=3, help="phases without and with the attack")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
