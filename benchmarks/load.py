"""A load on one server: many synthetic devices, idle sessions, hostile clients. Is every text right, is nobody stuck?

    python -m benchmarks.load                                   # a minute each with 1 to 64 devices, and 500 idle ones
    python -m benchmarks.load --minutes 30 --devices 64 --idle 0 --slow-share 0.25 --kill-every-s 120
    python -m benchmarks.load --devices 1,8 --idle 0 --modes auto --think-s 0     # what more sessions gain
    python -m benchmarks.load --devices 40 --idle 0 --serve "--verify-pace-ms 28 --latency-ms 50"    # too many
    python -m benchmarks.load --devices 32 --idle 0 --hostile all --repeats 3     # without, then with the attack

Every text is compared with what it is alone, on the same server (deterministic unless --serve says otherwise). Exit
status 1 if a text differs, is stuck or lost, or if a session is left behind. A row is a phase of that many minutes.
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
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.devices import Address, Habits, Job, Outcome, live, play, wait_idle
from benchmarks.hostile import KINDS, attack
from benchmarks.overhead import process_at, spent_s
from benchmarks.results import Results, Row, options
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

TEXTS, PROCESSES = 12, 4
SLOW_LINK = "--rtt-ms 80 --jitter-ms 40 --mbps 1"
RESUMED_S = 5.0
"""How long the server keeps the sessions of devices that were killed."""

SETTLE_S = 35.0
"""Before the processor time of idle sessions counts: links are quiet after ten seconds, and a heartbeat passes."""

NOTES = (
    "Devices are synthetic: drafts replay the target's text. Slow links are emulated. Server and devices share one "
    "machine; loopback, no TLS."
)


def main() -> int:
    arguments = _arguments()
    results = Results("load", NOTES, arguments.json)
    with ExitStack() as stack:
        load = Load(stack, arguments)
        if arguments.idle:
            results.add(load.idle(arguments.idle))
        for devices in filter(None, arguments.devices):
            for _ in range(arguments.repeats):
                for hostile in ([], arguments.hostile) if arguments.hostile else ([],):
                    results.add(load.phase(int(devices), hostile))
    return 0 if all(row.get("met", True) for row in results.rows) else 1


def start(work: Any, *given: Any) -> tuple[Any, Any]:
    """A process that was not forked from one with threads, and the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *given), daemon=True)
    process.start()
    theirs.close()
    return process, ours


class Load:
    """A server, what is played on it, and how its devices behave."""

    def __init__(self, stack: ExitStack, arguments: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._metrics_port = free.getsockname()[1]
        serve = ["serve", "--port", "0", "--metrics-port", str(self._metrics_port)]
        serve += ["--resume-for-s", str(RESUMED_S), *arguments.serve]
        self._address: Address = stack.enter_context(child(serve, "starting the server ..."))
        self._slow = self._address
        if arguments.slow_share:
            link = ["link", "--listen", "127.0.0.1:0", "--to", ":".join(map(str, self._address))]
            self._slow = stack.enter_context(child([*link, *arguments.link], "starting a slow link ..."))
        self._server = process_at(self._address[1])
        self._tokenizer_path = load_draft(bundled_engine()).tokenizer_path
        self._tokenizer = Tokenizer.load(self._tokenizer_path)
        self._arguments = arguments
        behaviour = (arguments.think_s, arguments.draft_ms, arguments.acceptance, arguments.break_off)
        self._habits = Habits(arguments.modes, *behaviour)
        self._jobs = self._recorded() if any(arguments.devices) else []

    def _recorded(self) -> list[Job]:
        """The texts, as each is alone; half of the prompts begin alike, as a fleet's do."""
        jobs = []
        for number in range(TEXTS):
            shared = np.random.default_rng(0).integers(10, 4000, 150 * (number % 2)).tolist()
            own = np.random.default_rng(number).integers(10, 4000, 20 + 10 * number).tolist()
            sampling = SamplingParams(0.8 * (number % 2), seed=number, ignore_eos=True)
            job = Job([*shared, *own], replace(sampling, max_new_tokens=self._arguments.tokens))
            text = play(self._address, self._tokenizer, job, "cloud", self._habits).tokens
            jobs.append(replace(job, text=text))
        return jobs

    def idle(self, sessions: int) -> Row:
        """Sessions that had a short text: memory beside keys and values, from the first fifth on, and processor."""
        process, pipe = start(wait_idle, self._address, self._tokenizer_path)
        memory = []
        for count in (sessions // 5, sessions - sessions // 5):
            pipe.send(count)
            pipe.recv()
            memory.append(self._server.memory_info().rss)
        time.sleep(self._arguments.settle_s)
        began_s, spent = time.monotonic(), spent_s(self._server)
        time.sleep(60 * self._arguments.minutes)
        share = (spent_s(self._server) - spent) / (time.monotonic() - began_s)
        process.kill()
        each = (memory[1] - memory[0]) / (sessions - sessions // 5)
        return {"idle": sessions, "percent_of_a_core": 100 * share, "kB_each": each / 1e3}

    def phase(self, devices: int, hostile: list[str]) -> Row:
        """A load for some minutes."""
        count = min(PROCESSES, devices)
        places = {place: self._start(place, devices) for place in range(count)}
        attackers = []
        if hostile:
            given = hostile, max(len(hostile), devices // 10), self._arguments.hostile_rate
            attackers = [start(attack, self._address[1], self._tokenizer.vocabulary_hash, *given)]
        for _, pipe in [*places.values(), *attackers]:
            pipe.recv()
        began_s, spent = time.monotonic(), spent_s(self._server)
        until_s = began_s + 60 * self._arguments.minutes
        for _, pipe in [*places.values(), *attackers]:
            pipe.send(until_s)
        outcomes, memory, killed = self._watch(places, devices, until_s)
        percent = 100 * (spent_s(self._server) - spent) / (time.monotonic() - began_s)
        acts, connections = attackers[0][1].recv() if attackers else (0, 0)
        time.sleep(RESUMED_S + 2.0 if killed else 0.0)
        row = {
            "devices": devices,
            "modes": ",".join(self._habits.modes),
            "hostile": ",".join(hostile) or None,
        }
        row |= {"processes_killed": killed, "hostile_acts": acts, "hostile_connections": connections}
        row |= {"percent_of_a_core": percent, **_memory_figures(memory)}
        return row | _figures(outcomes, devices, 60 * self._arguments.minutes, self._sessions_open())

    def _start(self, place: int, devices: int) -> tuple[Any, Any]:
        """A process with its share of the devices; the last ones are behind the slow link."""
        count = min(PROCESSES, devices)
        address = self._slow if place >= count * (1 - self._arguments.slow_share) else self._address
        numbers = range(place, devices, count)
        return start(live, address, self._tokenizer_path, numbers, self._jobs, self._habits)

    def _watch(
        self, places: dict[int, Any], devices: int, until_s: float
    ) -> tuple[list[Outcome], list[int], int]:
        """Until every process has ended; every now and then one is killed and another takes its place. What their
        texts came to, the server's resident bytes all the while, and how many were killed."""
        outcomes: list[Outcome] = []
        memory: list[int] = []
        killed, pause_s = 0, self._arguments.kill_every_s or float("inf")
        next_kill_s = time.monotonic() + pause_s
        while places:
            memory.append(self._server.memory_info().rss)
            if next_kill_s < time.monotonic() < until_s - pause_s / 2:
                place = list(places)[killed % len(places)]
                places[place][0].kill()
                hear(places[place][1], outcomes)
                places[place] = self._start(place, devices)
                places[place][1].recv()
                places[place][1].send(until_s)
                killed, next_kill_s = killed + 1, next_kill_s + pause_s
            places = {place: one for place, one in places.items() if hear(one[1], outcomes)}
            time.sleep(0.2)
        return outcomes, memory, killed

    def _sessions_open(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(
            float(next(line.split()[-1] for line in lines if line.startswith("edgespec:sessions_open")))
        )


def hear(pipe: Any, outcomes: list[Outcome]) -> bool:
    """Take in what a process has sent; False when it has ended."""
    with suppress(EOFError, OSError):
        while pipe.poll():
            outcome = pipe.recv()
            if outcome is None:
                return False
            outcomes.append(outcome)
        return True
    return False


def _memory_figures(memory: list[int]) -> Row:
    """Of the server, from the first fifth of the time on."""
    settled = np.array(memory[len(memory) // 5 :]) / 2**20
    least, most = settled.min() / settled[0] - 1, settled.max() / settled[0] - 1
    return {"memory_MiB": float(settled[0]), "memory_least": f"{least:+.1%}", "memory_most": f"{most:+.1%}"}


def _figures(outcomes: list[Outcome], devices: int, seconds: float, left: int) -> Row:
    ended = Counter(one.ended for one in outcomes)
    tokens = [sum(len(one.tokens) for one in outcomes if one.device == device) for device in range(devices)]
    for note, times in Counter(one.note for one in outcomes if one.note).most_common(5):
        print(f"{times} times: {note}", file=sys.stderr)
    token_ms = [gap for one in outcomes for gap in one.token_ms] or [0.0]
    first_ms = [one.first_ms for one in outcomes if one.first_ms is not None] or [0.0]
    differing = sum(one.different for one in outcomes)
    return {
        "texts": ended["finished"],
        "broken_off": ended["broken off"],
        "refused": ended["refused"],
        "tokens_per_s": sum(tokens) / seconds,
        "least_share": min(tokens) / max(1.0, float(np.mean(tokens))),
        "first_token_ms_median": float(np.median(first_ms)),
        "token_ms_median": float(np.median(token_ms)),
        "token_ms_p99": float(np.percentile(token_ms, 99)),
        "differing_texts": differing,
        "stuck": ended["stuck"],
        "lost": ended["lost"],
        "sessions_left": left,
        "met": not (differing or ended["stuck"] or ended["lost"] or left),
    }


def _arguments() -> Any:
    quick = {
        "devices": [2],
        "minutes": 0.1,
        "settle_s": 0.5,
        "tokens": 12,
        "think_s": 0.2,
        "hostile": ["all"],
        "idle": 5,
    }
    arguments = options(
        "load", __doc__, quick,
        devices=([1, 8, 32, 64], "numbers of them, a phase each; 0: none"),
        minutes=1.0,
        modes=["cloud", "sync", "preempt", "auto", "colocated"],
        think_s=(2.0, "between texts, on the average"),
        tokens=(40, "of each text"),
        draft_ms=(6.0, "of a device's draft, a token"),
        acceptance=(0.6, "how often a device's draft is right"),
        break_off=(0.1, "share of texts that devices leave early"),
        slow_share=(0.0, "of the devices, behind a slow link"),
        link=(SLOW_LINK, "options of that link"),
        kill_every_s=(0.0, "a process with a quarter of the devices"),
        hostile=([""], f"{', '.join(KINDS)}, or all"),
        hostile_rate=(200.0, "acts a second of all hostile clients"),
        repeats=(1, "of every phase"),
        idle=(500, "sessions that wait for their next turn; 500 at most, 0: none"),
        settle_s=(SETTLE_S, "of idle sessions, before they are measured"),
        serve=("--threads 1 --deterministic --kv-memory 2GiB", "options of the server"),
    )  # fmt: skip
    arguments.serve, arguments.link = shlex.split(arguments.serve), shlex.split(arguments.link)
    arguments.hostile = list(KINDS) if arguments.hostile == ["all"] else [*filter(None, arguments.hostile)]
    if unknown := [kind for kind in arguments.hostile if kind not in KINDS]:
        sys.exit(f"there is no hostile kind {unknown[0]!r}: choose among {', '.join(KINDS)}, all.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
