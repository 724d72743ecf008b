"""The wire beside its alternatives: encoding and decoding against plain Python, round trips against other sockets.

python -m benchmarks.wire                # about a minute
python -m benchmarks.wire --quick --json wire.json

Plain Python is tests/raw_peer.py, which writes frames from docs/wire-format.md with `struct`; both give the same bytes.
Round trips are of 64 bytes on loopback, both ends on one core or each on its own; rounds of all kinds alternate, and a
ratio is the median of the rounds' own ratios to the floor, a pair of C++ programs on epoll. What spins runs on two
cores only, which both ends share as they like, and its floor is a spinning pair.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.echoes import Echo, available, prepare, versions
from benchmarks.results import results, save
from edgespec import _native

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import raw_peer

NODES = (4, 16, 64)
WARM_UP = 200
TELL_S = 30.0
END_S = 5.0


def main() -> None:
    arguments = _arguments()
    cells = codec_cells(0.02 if arguments.quick else 0.5)
    cells += round_trip_cells(*(3, 300) if arguments.quick else (arguments.rounds, arguments.count))
    _show(cells)
    if arguments.json is not None:
        save(
            results(
                "wire",
                cells,
                f"Loopback, round trips of 64 bytes; nothing is emulated or paced. {versions()}",
            ),
            arguments.json,
        )


# Encoding and decoding


def codec_cells(seconds: float) -> list[dict[str, Any]]:
    return [cell for nodes in NODES for cell in _codec(nodes, seconds)]


def _codec(nodes: int, seconds: float) -> list[dict[str, Any]]:
    tokens = np.arange(nodes, dtype=np.int32)
    parents = np.full(nodes, _native.COMMITTED_BIT | 3, dtype=np.uint32)
    probabilities = np.full(nodes, 255, dtype=np.uint8)
    lists = tokens.tolist(), parents.tolist()
    frame = _native.encode_block(1, 1, tokens, parents, probabilities)
    assert raw_peer.block(1, 0, 1, *lists) == frame

    def read_native() -> Any:
        block: Any = _native.decode(frame)
        return block.first_node, block.tokens, block.parents, block.probabilities

    works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "encode": (
            lambda: raw_peer.block(1, 0, 1, *lists),
            lambda: _native.encode_block(1, 1, tokens, parents, probabilities),
        ),
        "decode": (lambda: raw_peer.read_block(frame), read_native),
    }
    cells = []
    for what, (plain, native) in works.items():
        plain_us, native_us = _microseconds(plain, seconds), _microseconds(native, seconds)
        cells.append(
            {
                "what": f"{what} a BLOCK of {nodes} nodes",
                "plain Python us": plain_us,
                "edgespec us": native_us,
                "times faster": plain_us / native_us,
            }
        )
    return cells


def _microseconds(work: Callable[[], Any], seconds: float) -> float:
    """The least of five, as everything else only adds."""
    timer = timeit.Timer(work)
    runs, took_s = timer.autorange()
    runs = max(1, int(runs * seconds / 5 / took_s))
    return min(timer.repeat(5, runs)) / runs * 1e6


# Round trips


def round_trip_cells(rounds: int, count: int) -> list[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    cells = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        echoes = available(folder)
        for ends in [(cores[-1], cores[-1]), (cores[-1], cores[-2])] if len(cores) > 1 else [(cores[0],) * 2]:
            spread = len(set(ends)) > 1
            these = [echo for echo in echoes if spread or not echo.spins]
            taken: dict[str, list[tuple[float, float]]] = {echo.name: [] for echo in these}
            for _ in range(rounds):
                for echo in these:
                    taken[echo.name].append(_round(spawn, echo, folder, ends, count))
            for echo in these:
                floor = next(other for other in these if other.spins == echo.spins)
                cells.append(_cell(echo.name, len(set(ends)), taken[echo.name], taken[floor.name]))
    return cells


def _cell(
    name: str, cores: int, taken: list[tuple[float, float]], floor: list[tuple[float, float]]
) -> dict[str, Any]:
    return {
        "what": f"round trip: {name}",
        "cores": cores,
        "p50 us": statistics.median(p50 for p50, _ in taken),
        "p99 us": statistics.median(p99 for _, p99 in taken),
        "p50 x floor": statistics.median(own[0] / low[0] for own, low in zip(taken, floor, strict=True)),
        "p99 x floor": statistics.median(own[1] / low[1] for own, low in zip(taken, floor, strict=True)),
    }


def _round(spawn: Any, echo: Echo, folder: Path, ends: tuple[int, ...], count: int) -> tuple[float, float]:
    """p50 and p99 of one server and one caller, processes of their own, each on its core; microseconds."""
    here, there = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(echo, folder, _cores(echo, ends, 0), there), daemon=True)
    server.start()
    try:
        assert here.poll(TELL_S), f"{echo.name}: the server did not start"
        port = here.recv()
        call = echo, folder, _cores(echo, ends, 1), port, count, there
        caller = spawn.Process(target=_call, args=call, daemon=True)
        caller.start()
        times_us = np.array(here.recv()[WARM_UP:]) / 1e3
        caller.join()
    finally:
        server.terminate()
        server.join(END_S)
        if server.is_alive():
            server.kill()
    return float(np.percentile(times_us, 50)), float(np.percentile(times_us, 99))


def _cores(echo: Echo, ends: tuple[int, ...], end: int) -> set[int]:
    return set(ends) if echo.spins else {ends[end]}


def _serve(echo: Echo, folder: Path, cores: set[int], tell: Any) -> None:
    os.sched_setaffinity(0, cores)
    with suppress(KeyboardInterrupt):
        echo.serve(folder, tell)


def _call(echo: Echo, folder: Path, cores: set[int], port: int, count: int, tell: Any) -> None:
    os.sched_setaffinity(0, cores)
    tell.send(echo.call(folder, port, WARM_UP + count))
    os._exit(0)  # without waiting for links to close


def _show(cells: list[dict[str, Any]]) -> None:
    console = Console()
    for keys in dict.fromkeys(tuple(cell) for cell in cells):
        table = Table(*keys)
        for cell in cells:
            if tuple(cell) == keys:
                table.add_row(
                    *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in cell.values())
                )
        console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="of each kind, alternating; default 9")
    parser.add_argument("--count", type=int, default=2000, help="round trips a round; default 2000")
    parser.add_argument("--quick", action="store_true", help="shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a results file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
