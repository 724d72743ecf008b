"""The wire beside its alternatives: encoding and decoding against plain Python, round trips against other sockets.

    python -m benchmarks.wire                # about a minute

Plain Python is tests/raw_peer.py, which writes frames from docs/wire-format.md with `struct`; both give the same bytes.
Round trips are of 64 bytes on loopback, both ends on one core or each on its own; rounds of all kinds alternate, and a
ratio is the median of the rounds' own ratios to the floor, a pair of C++ programs on epoll. What spins runs only on two
cores, which both ends share, and its floor is a spinning pair.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.echoes import Echo, available
from benchmarks.results import ROOT, Results, Row, options
from edgespec import _native

sys.path.insert(0, str(ROOT / "tests"))
import raw_peer

WARM_UP = 200
START_S, END_S = 30.0, 5.0


def main() -> int:
    arguments = options(
        "wire",
        __doc__,
        {"rounds": 1, "count": 100},
        rounds=(9, "of each kind"),
        count=(2000, "round trips a round"),
    )
    results = Results("wire", "Loopback; nothing is emulated or paced.", arguments.json)
    for nodes in (4, 16, 64):
        for row in _codec_rows(nodes, 0.02 if arguments.quick else 0.5):
            results.add(row)
    for row in _round_trip_rows(arguments.rounds, arguments.count):
        results.add(row)
    return 0


def _codec_rows(nodes: int, seconds: float) -> Iterator[Row]:
    tokens = np.arange(nodes, dtype=np.int32)
    parents = np.full(nodes, _native.COMMITTED_BIT | 3, dtype=np.uint32)
    probabilities = np.full(nodes, 255, dtype=np.uint8)
    lists = tokens.tolist(), parents.tolist()
    frame = _native.encode_block(1, 1, tokens, parents, probabilities)
    assert raw_peer.block(1, 0, 1, *lists) == frame

    def decode() -> object:
        block: Any = _native.decode(frame)
        return block.first_node, block.tokens, block.parents, block.probabilities

    works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "encode": (
            lambda: raw_peer.block(1, 0, 1, *lists),
            lambda: _native.encode_block(1, 1, tokens, parents, probabilities),
        ),
        "decode": (lambda: raw_peer.read_block(frame), decode),
    }
    for what, own in works.items():
        plain_us, native_us = (_microseconds(work, seconds) for work in own)
        row = {"what": f"{what} a BLOCK of {nodes} nodes", "plain Python us": plain_us}
        yield {**row, "edgespec us": native_us, "times faster": plain_us / native_us}


def _microseconds(work: Callable[[], Any], seconds: float) -> float:
    """The least of five, as everything else only adds."""
    timer = timeit.Timer(work)
    runs, took_s = timer.autorange()
    runs = max(1, int(runs * seconds / 5 / took_s))
    return min(timer.repeat(5, runs)) / runs * 1e6


def _round_trip_rows(rounds: int, count: int) -> Iterator[Row]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        echoes = available(Path(name))
        for ends in [(cores[-1], cores[-1]), (cores[-1], cores[-2])] if len(cores) > 1 else [(cores[0],) * 2]:
            these = [echo for echo in echoes if len(set(ends)) > 1 or not echo.spins]
            taken: dict[str, list[tuple[float, float]]] = {echo.name: [] for echo in these}
            for _ in range(rounds):
                for echo in these:
                    taken[echo.name].append(_round_us(echo, Path(name), ends, count))
            for echo in these:
                floor = next(other for other in these if other.spins == echo.spins)
                yield _row(echo.name, len(set(ends)), taken[echo.name], taken[floor.name])


def _row(name: str, cores: int, taken: list[tuple[float, float]], floor: list[tuple[float, float]]) -> Row:
    pairs = list(zip(taken, floor, strict=True))
    return {
        "what": f"round trip: {name}",
        "cores": cores,
        "p50 us": statistics.median(p50 for p50, _ in taken),
        "p99 us": statistics.median(p99 for _, p99 in taken),
        "p50 x floor": statistics.median(own[0] / least[0] for own, least in pairs),
        "p99 x floor": statistics.median(own[1] / least[1] for own, least in pairs),
    }


def _round_us(echo: Echo, folder: Path, ends: tuple[int, ...], count: int) -> tuple[float, float]:
    """p50 and p99 of one server and one caller, each a process on its core; what spins shares both."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    cores = [set(ends)] * 2 if echo.spins else [{end} for end in ends]
    server = spawn.Process(target=_serve, args=(echo, folder, cores[0], there), daemon=True)
    server.start()
    try:
        assert here.poll(START_S), f"{echo.name}: the server did not start"
        given = echo, folder, cores[1], here.recv(), count, there
        caller = spawn.Process(target=_call, args=given, daemon=True)
        caller.start()
        times_us = np.array(here.recv()[WARM_UP:]) / 1e3
        caller.join()
    finally:
        server.terminate()
        server.join(END_S)
        if server.is_alive():
            server.kill()
    return float(np.percentile(times_us, 50)), float(np.percentile(times_us, 99))


def _serve(echo: Echo, folder: Path, cores: set[int], pipe: Any) -> None:
    os.sched_setaffinity(0, cores)
    with suppress(KeyboardInterrupt):
        echo.serve(folder, pipe)


def _call(echo: Echo, folder: Path, cores: set[int], port: int, count: int, pipe: Any) -> None:
    os.sched_setaffinity(0, cores)
    pipe.send(echo.call(folder, port, WARM_UP + count))
    os._exit(0)  # without waiting for links to close


if __name__ == "__main__":
    sys.exit(main())
