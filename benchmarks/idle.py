"""What idle sessions cost a server: processor time, and resident memory of each beside its keys and values.

    python -m benchmarks.idle --sessions 1000

Each session has had a short text and waits for its next turn. Memory is what the server grew by from the first fifth of
the sessions to the last, so that the key-value pool, which is full by then, does not count. Without TLS. A listener
takes 512 connections from one address, and a session has two: relays make the sessions come from several.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from benchmarks.fleet import random_prompt, serving
from benchmarks.results import FOLDER, results, save
from benchmarks.soak import _server_process
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.sim.emulated_link import Link, LinkShape

SETTLE_S = 35.0
"""Links that nobody speaks on are quiet after ten seconds; a heartbeat of theirs is left to pass."""

SESSIONS_OF_ADDRESS = 250

TARGET_CPU, TARGET_KB = 0.01, 20.0


def main() -> int:
    arguments = _arguments()
    with serving("--threads", "1", "--kv-memory", "64MiB", processes=1) as fleet:
        server = _server_process(fleet.address[1])
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        tokenizer = load_draft(bundled_engine()).tokenizer_path
        process = context.Process(target=_open, args=(there, fleet.address, tokenizer), daemon=True)
        process.start()
        first = arguments.sessions // 5
        before = _open_more(here, first, server)
        after = _open_more(here, arguments.sessions - first, server)
        time.sleep(SETTLE_S)
        start_s, spent_s = time.monotonic(), _spent_s(server)
        time.sleep(arguments.seconds)
        share = (_spent_s(server) - spent_s) / (time.monotonic() - start_s)
        process.kill()
    kilobytes = (after - before) / (arguments.sessions - first) / 1e3
    cells: list[dict[str, Any]] = [
        _cell(arguments.sessions, "% of a core", 100 * share, 100 * TARGET_CPU),
        _cell(arguments.sessions, "kB each", kilobytes, TARGET_KB),
    ]
    Console().print(*cells, sep="\n")
    save(results("idle", cells, "Loopback, no TLS; one process holds all sessions' edges."), arguments.json)
    return 0


def _cell(sessions: int, unit: str, value: float, target: float) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "unit": unit,
        "value": value,
        "target": f"<= {target:g}",
        "met": value <= target,
    }


def _open_more(pipe: Any, count: int, server: psutil.Process) -> int:
    """The server's resident bytes once so many sessions more are idle."""
    pipe.send(count)
    pipe.recv()
    time.sleep(2.0)
    return int(server.memory_info().rss)


def _open(pipe: Any, address: tuple[str, int], tokenizer_path: Path) -> None:
    """A process: opens sessions as it is told, and keeps them."""
    tokenizer = Tokenizer.load(tokenizer_path)
    relays: list[tuple[str, int]] = []
    sessions: list[Session] = []
    while True:
        for _ in range(pipe.recv()):
            if len(sessions) % SESSIONS_OF_ADDRESS == 0:
                relays.append(_relay(address, f"127.0.1.{len(relays) + 1}"))
            params = SamplingParams(max_new_tokens=1, ignore_eos=True)
            sessions.append(Session(relays[-1], None, params, mode="cloud", tokenizer=tokenizer))
            sessions[-1].prompt(random_prompt(len(sessions), 8))
            for _ in sessions[-1]:
                pass
        pipe.send("open")


def _relay(server: tuple[str, int], source: str) -> tuple[str, int]:
    """Connections to the address that is returned reach the server from `source`."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    link = Link(("127.0.0.1", 0), server, LinkShape(), source=source)
    asyncio.run_coroutine_threadsafe(link.start(), loop).result()
    return "127.0.0.1", link.port


def _spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=40.0, help="over which processor time is counted")
    parser.add_argument("--json", type=Path, default=FOLDER / "idle.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
