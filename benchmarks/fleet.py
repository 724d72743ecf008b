"""A fleet of servers under Ray: its directory, a server killed, all replaced, and what `edgespec plan` foretells.

    python -m benchmarks.fleet --json docs/results/fleet.json       # needs pip install '.[ray]' psutil

`edgespec fleet up` runs the bundled pair on this machine, under a Ray cluster of its own or the one that RAY_ADDRESS
names. Devices are synthetic (benchmarks/devices.py), ask the directory and write text after text, each of which is
compared with what the target alone writes. Exit status 1 if a text differs, or if a device sees an error. A phase is
void if forwards overran their pace: then take a longer --forward-ms.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.devices import Outcome
from benchmarks.directory import asked_ms, named
from benchmarks.empty_deployment import empty_deployment
from benchmarks.fleet_figures import (
    first_s,
    gap_s,
    overrun_share,
    runs_at,
    spread_s,
    token_ms,
    tokens_between,
)
from benchmarks.fleet_load import Load, Phase
from benchmarks.results import Results, Row, options
from edgespec.cli.child import child
from edgespec.core.address import parse_address
from edgespec.core.pacing import VOID_SHARE
from edgespec.drafting.modes import policy
from edgespec.edge.directory import Directory
from edgespec.sim.fleet import steady
from edgespec.sim.plan import Situation

ROWS, WAIT_S = 1024, 240.0
"""Rows that a paced forward takes, so that all take the same time; how long a fleet may take to come back."""

WHERE_MS, GAP_S, SPREAD_S, DEVIATION = 5.0, 2.0, 60.0, 0.1
"""The targets. A gap may also take what the prompt takes, which is short beside it here."""

EMPTY, NOTHING = "/empty", "a deployment of Ray Serve that does nothing"

OVERHEADS = {"forward_overhead_ms": 0.3, "draft_overhead_ms": 0.2, "wake_up_ms": 0.2}
"""As `edgespec plan` has them unless told otherwise."""

NOTES = (
    "Servers, directory and devices share one machine; loopback, no TLS. Target forwards and drafts are paced. Devices "
    "are synthetic: drafts replay the target's text, right at a given share."
)


def main() -> int:
    arguments = _arguments()
    results = Results("fleet", f"{NOTES} Ray {importlib.metadata.version('ray')}.", arguments.json)
    with ExitStack() as stack:
        fleet = Fleet(stack, arguments, results)
        fleet.directory_latency()
        for mode in arguments.modes:
            fleet.plan(mode)
        fleet.directory_killed()
        fleet.server_killed()
        fleet.servers_replaced()
    return 0 if fleet.right else 1


class Fleet:
    """Servers under Ray, the devices that use them, and a row for each figure."""

    def __init__(self, stack: ExitStack, arguments: Any, results: Results) -> None:
        self._stack, self._arguments, self._results = stack, arguments, results
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._directory = Directory(f"http://127.0.0.1:{self._port}")
        self._pacing = f"forward {arguments.forward_ms:g} ms, draft {arguments.draft_ms:g} ms"
        self._devices = Load(self._directory, arguments)
        self._overran, self._void = 0.0, False
        self.right = True
        self._up("256MiB")

    def _up(self, kv_memory: str) -> None:
        """Start the fleet, or replace its servers by ones that have this much memory."""
        command = ["fleet", "up", "--replicas", str(self._arguments.replicas), "--port", str(self._port)]
        command += ["--verify-pace-ms", str(self._arguments.forward_ms), "--pace-rows", str(ROWS)]
        command += ["--threads", "1", "--deterministic", "--drain-s", "10", "--kv-memory", kv_memory]
        self._stack.enter_context(child(command, "starting servers under Ray ..."))

    def _add(self, phase: str, of: str, unit: str, measured: float | None, most: float | None = None) -> None:
        verdict = None if most is None else "met" if measured is not None and measured <= most else "missed"
        self._row(phase, of, unit, measured, {"at most": most, "target": verdict})

    def _beside(self, phase: str, of: str, unit: str, measured: float, predicted: float) -> None:
        """What was measured beside what `edgespec plan` foretells."""
        away = measured / predicted - 1
        verdict = "met" if abs(away) <= DEVIATION else "missed"
        at_most = f"{DEVIATION:.0%} off"
        self._row(phase, of, unit, measured, {"predicted": predicted, "at most": at_most, "target": verdict})

    def _row(self, phase: str, of: str, unit: str, measured: float | None, more: Row) -> None:
        row = {"phase": phase, "of": of, "unit": unit, "measured": measured, "predicted": None, **more}
        self._results.add({**row, "pacing": self._pacing, "void": self._void})

    def directory_latency(self) -> None:
        """`POST /where` of an idle fleet, and Ray Serve's own share of it."""
        asking, within_s = self._arguments.asking, self._arguments.asking_s
        empty = Directory(f"http://127.0.0.1:{self._port}{EMPTY}")
        with empty_deployment(EMPTY):
            for seconds in (0.0, within_s):
                how = f"within {seconds:g} s" if seconds else "one after another"
                for of, asked, most in (("POST /where", self._directory, WHERE_MS), (NOTHING, empty, None)):
                    median, late = np.percentile(asked_ms(asked, asking, seconds), [50, 99])
                    self._add("idle", f"{of}, {asking} devices {how}, median", "ms", float(median))
                    self._add(
                        "idle", f"{of}, {asking} devices {how}, 99th percentile", "ms", float(late), most
                    )

    def plan(self, mode: str) -> None:
        """Devices, beside a simulation of the same number on each server with texts and prompts of the same lengths."""
        arguments = self._arguments
        played = self._load([mode], lambda: time.sleep(arguments.steady_s))
        texts, seconds = played.texts, played.ended_s - played.began_s
        paces = arguments.forward_ms, arguments.draft_ms, arguments.acceptance
        situation = Situation(0.0, *paces, free_rows=ROWS, **OVERHEADS)
        devices = round(arguments.devices / arguments.replicas)
        foretold_ms = steady(situation, partial(policy, mode), devices, self._devices.lengths)
        tokens_per_s = tokens_between(texts, played.began_s, played.ended_s) / seconds
        finished = [text for text in texts if text.ended == "finished"]
        settled = [text for text in finished if text.began_s >= played.began_s] or finished
        phase, foretold_per_s = f"steady, {mode}", arguments.devices / foretold_ms * 1e3
        self._beside(phase, "tokens a second of the fleet", "1/s", tokens_per_s, foretold_per_s)
        self._beside(
            phase, "time a token, with its share of the opening", "ms", token_ms(settled), foretold_ms
        )
        self._add_texts(phase, texts)

    def directory_killed(self) -> None:
        """Ray Serve's HTTP proxy, with SIGKILL."""
        phase, back_s = "directory killed", [0.0]

        def act() -> None:
            _kill(self._port)
            back_s[0] = _until(lambda: bool(named(self._directory, 1)))

        played = self._load(self._arguments.modes, act)
        running = [text for text in played.texts if runs_at(text, played.began_s)]
        self._add_texts(phase, running)
        self._add(phase, "until it answers again", "s", back_s[0])
        begun = [text for text in played.texts if text.began_s > played.began_s]
        self._add(phase, "texts that could not begin", "", sum(text.ended != "finished" for text in begun))
        self._add(phase, "longest wait for a first token", "s", max(map(first_s, begun), default=0.0))

    def server_killed(self) -> None:
        """SIGKILL. The load is spread again when as many servers as before have half their share of it."""
        phase, replicas, victim = "server killed", self._arguments.replicas, min(self._servers())

        def act() -> None:
            _kill(parse_address(victim).port)
            _until(lambda: len(self._servers() - {victim}) >= replicas)
            time.sleep(self._arguments.steady_s)

        played = self._load(self._arguments.modes, act)
        self._add_texts(phase, played.texts)
        each = self._arguments.devices / replicas / 2
        spread = spread_s(played.texts, played.began_s, victim, replicas, each)
        self._add(phase, "until the load is spread again", "s", spread, SPREAD_S)

    def servers_replaced(self) -> None:
        """A second `fleet up`, with other options, replaces them one by one."""
        phase, before = "servers replaced", self._servers()
        played = self._load(self._arguments.modes, lambda: self._up("255MiB"))
        self._add_texts(phase, played.texts)
        self._add(phase, "servers that stayed", "", len(before & self._servers()), 0)
        self._add(phase, "time it took", "s", played.ended_s - played.began_s)

    def _servers(self) -> set[str]:
        """That the directory names now."""
        return named(self._directory, 10 * self._arguments.replicas)

    def _load(self, modes: Sequence[str], act: Callable[[], object]) -> Phase:
        played = self._devices.play(modes, act)
        self._overran = overrun_share(played.texts, self._arguments.forward_ms)
        self._void = self._overran > VOID_SHARE
        return played

    def _add_texts(self, phase: str, texts: Sequence[Outcome]) -> None:
        """What devices saw."""
        failed = [text for text in texts if text.ended != "finished"]
        for sentence, count in Counter(f"{text.ended}: {text.note}" for text in failed).items():
            self._add(phase, f"texts {sentence}", "", count)
        different = sum(text.different for text in texts)
        self._add(phase, "texts", "", len(texts))
        self._add(phase, "texts that differ", "", different, 0)
        self._add(phase, "errors that devices saw", "", len(failed), 0)
        self._add(phase, "longest gap between tokens", "s", max(map(gap_s, texts), default=0.0), GAP_S)
        self._add(phase, "forwards over their pace", "%", 100 * self._overran, 100 * VOID_SHARE)
        self.right = self.right and not different and not failed


def _kill(port: int) -> None:
    """The process that listens there. Ray's processes are nobody's children."""
    for one in psutil.net_connections("tcp"):
        if one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid:
            process = psutil.Process(one.pid)
            process.kill()
            process.wait(WAIT_S)
            return
    sys.exit(f"no process of this user listens on port {port}.")


def _until(holds: Callable[[], bool]) -> float:
    """The seconds that it took."""
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() - began_s > WAIT_S:
            sys.exit(f"the fleet has not come back within {WAIT_S:g} s.")
        time.sleep(0.2)
    return time.monotonic() - began_s


def _arguments() -> Any:
    quick = {"asking": 20, "asking_s": 1.0, "devices": 6, "tokens": 8, "steady_s": 2.0, "modes": ["cloud"]}
    arguments = options(
        "fleet", __doc__, quick,
        replicas=3,
        asking=(1000, "devices that ask the directory"),
        asking_s=(20.0, "in which they do, when not one after another"),
        devices=(64, "that write at once"),
        modes=["cloud", "auto"],
        tokens=(60, "of a text, on the average"),
        forward_ms=(100.0, "the pace of the target's forwards"),
        draft_ms=(30.0, "of a device's draft, a token"),
        acceptance=(0.6, "how often a device's draft is right"),
        steady_s=(20.0, "that a load is measured, and goes on after a server was killed"),
    )  # fmt: skip
    if importlib.util.find_spec("ray") is None:
        sys.exit("this needs ray: pip install '.[ray]' psutil.")
    running = any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"]))
    if running and "RAY_ADDRESS" not in os.environ:
        sys.exit("a Ray cluster runs here, whose fleet would be replaced: end it, or name it in RAY_ADDRESS.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
