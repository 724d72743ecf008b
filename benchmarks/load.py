"""A load on one server: many synthetic devices, idle sessions, hostile clients. Is every text right, is nobody stuck?

    python -m benchmarks.load --minutes 30 --devices 64 --slow-share 0.25 --kill-every-s 120
    python -m benchmarks.load --devices 1,8 --modes auto --think-s 0        # what more sessions gain
    python -m benchmarks.load --devices 40 --serve "--verify-pace-ms 28 --latency-ms 50"     # more than it carries
    python -m benchmarks.load --devices 32 --hostile all --repeats 3        # each phase without, then with the attack
    python -m benchmarks.load --devices 0 --idle 1000

Every text is compared with what it is alone, on the same server (deterministic unless --serve says otherwise). Exit
status 1 if a text differs, a text is stuck or a session is left behind. A row is a phase of that many minutes.
"""

from __future__ import annotations

import multiprocessing
import shlex
import socket
import sys
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.devices import Address, Habits, Job, Outcome, live, play, wait_idle
from benchmarks.hostile import KINDS, attack
from benchmarks.overhead import process_at, spent_s
from benchmarks.results import Results, Row, numbers, parser
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

TEXTS = 12
PROCESSES = 4
SLOW_LINK = ("--rtt-ms", "80", "--jitter-ms", "40", "--mbps", "1")
RESUMED_S = 5.0
"""How long the server keeps the sessions of devices that were killed."""

SETTLE_S = 35.0
"""Links on which nobody speaks are quiet after ten seconds; a heartbeat of theirs is left to pass."""

NOTES = (
    "Devices are synthetic: drafts replay the target's text. Slow links are emulated: 80 ms, 40 ms of jitter, 1 Mbit/s. "
    "Server and devices share one machine; loopback, no TLS."
)


@dataclass
class Scene:
    """The server under load, and what is played on it."""

    address: Address
    metrics_port: int
    tokenizer_path: Path
    slow: Address | None = None
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = process_at(self.address[1])
        self.tokenizer = Tokenizer.load(self.tokenizer_path)

    def start(self, work: Any, *given: Any) -> tuple[Any, Any]:
        """A process that was not forked from one with threads, and the pipe to it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, *given), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def sessions_open(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(
            float(next(line.split()[-1] for line in lines if line.startswith("edgespec:sessions_open")))
        )

    def memory_mib(self) -> float:
        return float(self.server.memory_info().rss) / 2**20


def main() -> int:
    arguments = _arguments()
    habits = Habits(
        arguments.modes, arguments.think_s, arguments.draft_ms, arguments.acceptance, arguments.break_off
    )
    results = Results("load", NOTES, arguments.json)
    with socket.socket() as free, ExitStack() as stack:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        serve = ["serve", "--port", "0", "--metrics-port", port, "--resume-for-s", str(RESUMED_S)]
        address = stack.enter_context(child([*serve, *arguments.serve], "starting the server ..."))
        scene = Scene(address, int(port), load_draft(bundled_engine()).tokenizer_path)
        if arguments.slow_share:
            link = ["link", "--listen", "127.0.0.1:0", "--to", f"{address[0]}:{address[1]}", *SLOW_LINK]
            scene.slow = stack.enter_context(child(link, "starting a slow link ..."))
        if arguments.idle:
            results.add(_idle(scene, arguments.idle, 60 * arguments.minutes, arguments.settle_s))
        scene.jobs = _recorded(scene, habits, arguments.tokens) if any(arguments.devices) else []
        for devices in filter(None, arguments.devices):
            for _ in range(arguments.repeats):
                for hostile in ([], arguments.hostile) if arguments.hostile else ([],):
                    results.add(Phase(scene, int(devices), habits, hostile, arguments).play())
    return 0 if all(row.get("met", True) for row in results.rows) else 1


def _recorded(scene: Scene, habits: Habits, tokens: int) -> list[Job]:
    """The texts, as each is alone; half of the prompts begin alike, as a fleet's do."""
    jobs = []
    for number in range(TEXTS):
        draw = np.random.default_rng(number).integers
        shared = np.random.default_rng(0).integers(10, 4000, 150).tolist() if number % 2 else []
        sampling = SamplingParams(
            temperature=(0.0, 0.8)[number % 2], seed=number, max_new_tokens=tokens, ignore_eos=True
        )
        job = Job([*shared, *draw(10, 4000, 20 + 10 * number).tolist()], sampling)
        jobs.append(replace(job, text=play(scene.address, scene.tokenizer, job, "cloud", habits).tokens))
    return jobs


def _idle(scene: Scene, sessions: int, seconds: float, settle_s: float) -> Row:
    """Sessions that had a short text: memory beside keys and values, from the first fifth to the last, and processor."""
    process, pipe = scene.start(wait_idle, scene.address, scene.tokenizer_path)
    memory_mib = []
    for count in (sessions // 5, sessions - sessions // 5):
        pipe.send(count)
        pipe.recv()
        time.sleep(min(2.0, settle_s))
        memory_mib.append(scene.memory_mib())
    time.sleep(settle_s)
    start_s, spent = time.monotonic(), spent_s(scene.server)
    time.sleep(seconds)
    share = (spent_s(scene.server) - spent) / (time.monotonic() - start_s)
    process.kill()
    grown_kb = (memory_mib[1] - memory_mib[0]) * 2**20 / 1e3
    return {
        "idle": sessions,
        "percent_of_a_core": 100 * share,
        "kB_each": grown_kb / (sessions - sessions // 5),
    }


class Phase:
    """One load for some minutes: starts the processes of devices, kills some, and takes in what they send."""

    def __init__(
        self, scene: Scene, devices: int, habits: Habits, hostile: list[str], arguments: Any
    ) -> None:
        self._scene = scene
        self._devices = devices
        self._habits = habits
        self._hostile = hostile
        self._arguments = arguments
        self._seconds = 60 * arguments.minutes
        self._until_s = 0.0
        self._outcomes: list[Outcome] = []
        self._memory_mib: list[float] = []
        self._killed = 0

    def play(self) -> Row:
        scene = self._scene
        processes = [self._start(place) for place in range(min(PROCESSES, self._devices))]
        attackers = []
        if self._hostile:
            count = max(len(self._hostile), self._devices // 10)
            given = scene.tokenizer.vocabulary_hash, self._hostile, count, self._arguments.hostile_rate
            attackers = [scene.start(attack, scene.address[1], *given)]
        for _, pipe in [*processes, *attackers]:
            pipe.recv()
        began_s, spent = time.monotonic(), spent_s(scene.server)
        self._until_s = began_s + self._seconds
        for _, pipe in [*processes, *attackers]:
            pipe.send(self._until_s)
        self._watch(processes)
        percent = 100 * (spent_s(scene.server) - spent) / (time.monotonic() - began_s)
        acts, connections = attackers[0][1].recv() if attackers else (0, 0)
        if self._killed:
            time.sleep(RESUMED_S + 2.0)
        return {
            **self._figures(),
            "percent_of_a_core": percent,
            "hostile_acts": acts,
            "hostile_connections": connections,
        }

    def _start(self, place: int) -> tuple[Any, Any]:
        """A process with its share of the devices; the last ones are behind the slow link."""
        scene, processes = self._scene, min(PROCESSES, self._devices)
        slow = scene.slow is not None and place >= processes * (1 - self._arguments.slow_share)
        address = scene.slow if slow else scene.address
        devices = range(place, self._devices, processes)
        return scene.start(live, address, scene.tokenizer_path, devices, scene.jobs, self._habits)

    def _watch(self, running: list[tuple[Any, Any]]) -> None:
        """Until every process has ended; every now and then one is killed and another takes its place."""
        pause_s = self._arguments.kill_every_s or float("inf")
        next_kill_s = time.monotonic() + pause_s
        places: dict[int, tuple[Any, Any]] = dict(enumerate(running))
        while places:
            self._memory_mib.append(self._scene.memory_mib())
            places = {place: one for place, one in places.items() if self._hear(one[1])}
            if next_kill_s < time.monotonic() < self._until_s - pause_s / 2 and places:
                place = list(places)[self._killed % len(places)]
                places[place][0].kill()
                places[place][0].join()
                self._hear(places[place][1])
                _, pipe = places[place] = self._start(place)
                pipe.recv()
                pipe.send(self._until_s)
                self._killed += 1
                next_kill_s += pause_s
            time.sleep(0.2)

    def _hear(self, pipe: Any) -> bool:
        """Take in what a process has sent; False when it has ended."""
        with suppress(EOFError, OSError):
            while pipe.poll():
                outcome = pipe.recv()
                if outcome is None:
                    return False
                self._outcomes.append(outcome)
            return True
        return False

    def _figures(self) -> Row:
        ended = Counter(one.ended for one in self._outcomes)
        tokens: Counter[int] = Counter(dict.fromkeys(range(self._devices), 0))
        for one in self._outcomes:
            tokens[one.device] += len(one.tokens)
        for note, times in Counter(one.note for one in self._outcomes if one.note).most_common(5):
            print(f"{times} times: {note}", file=sys.stderr)
        token_ms = [gap for one in self._outcomes for gap in one.token_ms] or [0.0]
        first_ms = [one.first_ms for one in self._outcomes if one.first_ms is not None] or [0.0]
        settled = np.array(self._memory_mib[len(self._memory_mib) // 5 :])
        differing = sum(one.different for one in self._outcomes)
        left = self._scene.sessions_open()
        return {
            "devices": self._devices,
            "modes": ",".join(self._habits.modes),
            "hostile": ",".join(self._hostile) or None,
            "minutes": self._arguments.minutes,
            "texts": ended["finished"],
            "broken_off": ended["broken off"],
            "refused": ended["refused"],
            "lost": ended["lost"],
            "processes_killed": self._killed,
            "tokens_per_s": sum(tokens.values()) / self._seconds,
            "least_share": min(tokens.values()) / max(1.0, float(np.mean(list(tokens.values())))),
            "first_token_ms_median": float(np.median(first_ms)),
            "token_ms_median": float(np.median(token_ms)),
            "token_ms_p99": float(np.percentile(token_ms, 99)),
            "memory_mib_settled": float(settled[0]),
            "memory_least": f"{settled.min() / settled[0] - 1:+.1%}",
            "memory_most": f"{settled.max() / settled[0] - 1:+.1%}",
            "differing_texts": differing,
            "stuck": ended["stuck"],
            "sessions_left": left,
            "met": not (differing or ended["stuck"] or ended["lost"] or left),
        }


def _arguments() -> Any:
    made = parser("load", __doc__)
    made.add_argument("--devices", type=numbers, default="64", help="numbers of them, a phase each")
    made.add_argument("--minutes", type=float, default=1.0)
    made.add_argument(
        "--modes", type=lambda text: text.split(","), default="cloud,sync,preempt,auto,colocated"
    )
    made.add_argument("--think-s", type=float, default=2.0, help="between texts, on the average")
    made.add_argument("--tokens", type=int, default=40, help="of each text")
    made.add_argument("--draft-ms", type=float, default=6.0, help="of a device's draft, a token")
    made.add_argument("--acceptance", type=float, default=0.6, help="how often a device's draft is right")
    made.add_argument("--break-off", type=float, default=0.1, help="share of texts that devices leave early")
    made.add_argument("--slow-share", type=float, default=0.0, help="of the devices, behind a slow link")
    made.add_argument(
        "--kill-every-s", type=float, default=0.0, help="a process with a quarter of the devices"
    )
    made.add_argument("--hostile", metavar="KIND", help=f"{', '.join(KINDS)}, several with commas, or all")
    made.add_argument(
        "--hostile-rate", type=float, default=200.0, help="acts a second of all hostile clients"
    )
    made.add_argument("--repeats", type=int, default=1, help="of every phase")
    made.add_argument(
        "--idle", type=int, default=0, help="sessions that wait for their next turn, measured first"
    )
    made.add_argument(
        "--settle-s", type=float, default=SETTLE_S, help="before the processor time of idle sessions"
    )
    made.add_argument(
        "--serve", type=shlex.split, default="--threads 1 --deterministic", help="options of the server"
    )
    arguments = made.parse_args()
    if arguments.quick:
        arguments.devices, arguments.minutes, arguments.settle_s, arguments.tokens = [2], 0.1, 0.5, 12
        arguments.think_s, arguments.hostile, arguments.idle = (
            0.2,
            arguments.hostile or "all",
            arguments.idle or 5,
        )
    kinds = {"all": list(KINDS), None: []}.get(arguments.hostile) or (arguments.hostile or "").split(",")
    arguments.hostile = kinds if arguments.hostile else []
    if unknown := [kind for kind in arguments.hostile if kind not in KINDS]:
        made.error(f"there is no hostile kind {unknown[0]!r}: choose among {', '.join(KINDS)}, all.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
