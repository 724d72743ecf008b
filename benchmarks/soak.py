"""Many synthetic devices on one server for a chosen time: is every text right, is memory flat, is nobody stuck?

    python -m benchmarks.soak --minutes 30 --devices 64

Devices in several processes join, think, prompt, break off in the middle; a part of them is behind a slow link, and
every now and then a process is killed with all its sessions and another takes its place. The server is deterministic,
so every text must be what it is alone. Exit status 1 where a text differs, a session is stuck or left behind, or memory
leaves +-5 % of what it was after the first fifth of the time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from rich.console import Console

from benchmarks.devices import Neighbourhood, Told, live
from benchmarks.fleet import Fleet, Job, random_prompt, serving
from benchmarks.results import FOLDER, results, save
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

TEXTS, TOKENS = 12, 40
NEIGHBOURHOODS = 4
THINK_S = 8.0
SLOW_LINK = ("--rtt-ms", "80", "--jitter-ms", "40", "--mbps", "1")
KILL_EVERY_S = 120.0
MEMORY = 0.05
SERVER = ("--threads", "1", "--kv-memory", "512MiB", "--deterministic", "--resume-for-s", "5")
NOTES = (
    "Devices are synthetic: drafts replay the target's text. A quarter is behind an emulated link of 80 ms with "
    "40 ms of jitter at 1 Mbit/s. Server and devices share one machine with other work."
)


@dataclass
class Watch:
    """What was seen. memory: resident bytes of the server, every second."""

    told: list[Told] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    killed: int = 0


def main() -> int:
    arguments = _arguments()
    watch = Watch()
    with serving(*SERVER, processes=1) as fleet, ExitStack() as stack:
        jobs = _recorded(fleet)
        host, port = fleet.address
        link = ["link", "--listen", "127.0.0.1:0", "--to", f"{host}:{port}", *SLOW_LINK]
        slow = stack.enter_context(child(link, "starting a slow link ..."))
        until_s = time.monotonic() + 60 * arguments.minutes
        places = _places(fleet.address, slow, arguments.devices, jobs, until_s)
        _run(places, _server_process(port), until_s, watch)
        time.sleep(7.0)  # sessions of the killed may be resumed for five seconds
        left, stuck = int(fleet.metrics()["sessions_open"]), sum(one.ended == "stuck" for one in watch.told)
    cell = _cell(watch, arguments, left, stuck)
    Console().print("  ".join(f"{key} {value}" for key, value in cell.items()), soft_wrap=True)
    for note, times in Counter(one.note for one in watch.told if one.note).most_common(5):
        print(f"{times} times: {note}", file=sys.stderr)
    save(results("soak", [cell], NOTES), arguments.json)
    return 0 if cell["met"] else 1


def _recorded(fleet: Fleet) -> list[Job]:
    """The texts, as each is alone; half of the prompts begin alike, as a fleet's do."""
    jobs = []
    for number in range(TEXTS):
        shared = random_prompt(0, 150) if number % 2 else []
        params = SamplingParams(
            temperature=(0.0, 0.8)[number % 2], seed=number, max_new_tokens=TOKENS, ignore_eos=True
        )
        job = Job([*shared, *random_prompt(number, 20 + 10 * number)], params, "cloud")
        jobs.append(Job(job.prompt, params, "cloud", text=fleet.play([job])[0].tokens))
    return jobs


def _places(
    fast: tuple[str, int], slow: tuple[str, int], devices: int, jobs: Sequence[Job], until_s: float
) -> list[Neighbourhood]:
    """The devices, dealt over processes; the last process is behind the slow link."""
    think_s = np.random.default_rng(0).exponential(THINK_S, 997).tolist()
    tokenizer = load_draft(bundled_engine()).tokenizer_path
    return [
        Neighbourhood(
            slow if place == NEIGHBOURHOODS - 1 else fast,
            tokenizer,
            range(place, devices, NEIGHBOURHOODS),
            jobs,
            think_s,
            until_s,
        )
        for place in range(NEIGHBOURHOODS)
    ]


def _run(places: Sequence[Neighbourhood], server: psutil.Process, until_s: float, watch: Watch) -> None:
    """Watch until the time is up and every device has ended; kill a process of devices every now and then."""
    running = {number: _start(place) for number, place in enumerate(places)}
    next_kill_s = time.monotonic() + KILL_EVERY_S
    while running:
        tick_s = time.monotonic() + 1.0
        watch.memory.append(server.memory_info().rss)
        for number, (_, pipe) in list(running.items()):
            if not _listen(pipe, watch):
                del running[number]
        if next_kill_s < time.monotonic() < until_s - KILL_EVERY_S / 2:
            number = watch.killed % len(places)
            running[number][0].kill()
            running[number][0].join()
            _listen(running[number][1], watch)
            running[number] = _start(places[number])
            watch.killed += 1
            next_kill_s += KILL_EVERY_S
        time.sleep(max(0.0, tick_s - time.monotonic()))


def _start(place: Neighbourhood) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=live, args=(there, place), daemon=True)
    process.start()
    there.close()
    return process, here


def _listen(pipe: Any, watch: Watch) -> bool:
    """Take in what a process has told; False when it has ended."""
    with suppress(EOFError, OSError):
        while pipe.poll():
            told = pipe.recv()
            if told is None:
                return False
            watch.told.append(told)
        return True
    return False


def _server_process(port: int) -> psutil.Process:
    """The child that listens there."""
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if any(
            c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp")
        )
    )


def _cell(watch: Watch, arguments: argparse.Namespace, left: int, stuck: int) -> dict[str, Any]:
    ended = Counter(one.ended for one in watch.told)
    settled = np.array(watch.memory[len(watch.memory) // 5 :]) / 2**20
    token_ms = [gap for one in watch.told for gap in one.token_ms]
    first_ms = [one.first_ms for one in watch.told if one.first_ms is not None]
    least, most = settled.min() / settled[0] - 1, settled.max() / settled[0] - 1
    differing = sum(one.different for one in watch.told)
    return {
        "minutes": arguments.minutes,
        "devices": arguments.devices,
        "texts": ended["finished"],
        "broken_off": ended["broken off"],
        "refused": ended["refused"],
        "lost": ended["lost"],
        "processes_killed": watch.killed,
        "differing_texts": differing,
        "stuck": stuck,
        "sessions_left": left,
        "first_token_ms_median": float(np.median(first_ms)),
        "token_ms_median": float(np.median(token_ms)),
        "token_ms_p99": float(np.percentile(token_ms, 99)),
        "memory_MiB_settled": float(settled[0]),
        "memory_least": f"{least:+.1%}",
        "memory_most": f"{most:+.1%}",
        "met": bool(not (differing or stuck or left) and least >= -MEMORY and most <= MEMORY),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--json", type=Path, default=FOLDER / "soak.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
