"""What edgespec itself costs: milliseconds a forward and a draft run beside the engines', and processor time when idle.

    python -m benchmarks.overhead --json docs/results/overhead.json

A forward's overhead is the time between two verdicts of `cloud` less the forward's own: server loop, wire, session. A
draft run's is the session's work between engine runs, in `auto`. Idle: sessions are open, their texts finished; all
edges share one process, so one of them costs its share.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import Any
from unittest import mock

import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.results import Results, options
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.train.prompts import held_out_prompts

Address = tuple[str, int]
LIMIT_MS, LIMIT_PERCENT = 0.5, 1.0
SERVE = ["serve", "--port", "0", "--threads", "1", "--colocated-draft", "none"]


def main() -> int:
    quick = {"prompts": 1, "sessions": 4, "idle_s": 1.0}
    arguments = options(
        "overhead", __doc__, quick, prompts=4, sessions=(100, "that are open and idle"), idle_s=15.0
    )
    notes = "Loopback, no emulated link; engines at full speed, the server computing on one thread."
    results = Results("overhead", notes, arguments.json)

    def add(of: str, unit: str, measured: float, limit: float) -> None:
        verdict = "met" if measured <= limit else "missed"
        results.add({"of": of, "unit": unit, "measured": measured, "at most": limit, "target": verdict})

    engine = load_draft(bundled_engine())
    prompts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts)
    with child(SERVE, "starting the server ...") as address:
        _forward_overheads_ms(address, engine, prompts[0])  # warms up
        of_forwards = [gap for prompt in prompts for gap in _forward_overheads_ms(address, engine, prompt)]
        add("a forward, beside the target's", "ms", float(np.median(of_forwards)), LIMIT_MS)
        of_drafts = [_draft_overhead_ms(address, engine, prompt) for prompt in prompts]
        add("a draft run, beside the engine's", "ms", float(np.median(of_drafts)), LIMIT_MS)
        edges, server = _idle_percent(address, engine, prompts[0], arguments.sessions, arguments.idle_s)
        add(f"server, {arguments.sessions} idle sessions", "% of a core", server, LIMIT_PERCENT)
        add("edge, one idle session", "% of a core", edges / arguments.sessions, LIMIT_PERCENT)
    return 0


def _forward_overheads_ms(address: Address, engine: DraftEngine, prompt: list[int]) -> list[float]:
    """Between each verdict and the next in `cloud`, less the forward; the prompt's own is left out."""
    params = SamplingParams(max_new_tokens=48, ignore_eos=True)
    with Session(address, engine, params, mode="cloud") as session:
        session.prompt(prompt)
        arrivals = [(time.perf_counter(), step.statistics.forward_ms) for step in session if step.tokens]
    pairs = itertools.pairwise(arrivals)
    return [(now_s - before_s) * 1e3 - (spent - earlier) for (before_s, earlier), (now_s, spent) in pairs]


def _draft_overhead_ms(address: Address, engine: DraftEngine, prompt: list[int]) -> float:
    """Of the session's time for drafting, what is not the engine's."""
    spent_s = 0.0
    inner = engine.run

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal spent_s
        start_s = time.perf_counter()
        found = inner(*arguments, **named)
        spent_s += time.perf_counter() - start_s
        return found

    params = SamplingParams(temperature=0.8, seed=1, max_new_tokens=48, ignore_eos=True)
    with mock.patch.object(engine, "run", timed), Session(address, engine, params) as session:
        session.prompt(prompt)
        for _ in session:
            pass
        return (session.statistics.draft_ms - spent_s * 1e3) / session.statistics.draft_runs


def _idle_percent(
    address: Address, engine: DraftEngine, prompt: list[int], sessions: int, idle_s: float
) -> tuple[float, float]:
    """Percent of a core that this process and the server take while these sessions are open and idle."""
    params = SamplingParams(max_new_tokens=1, ignore_eos=True)
    processes = psutil.Process(), process_at(address[1])
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            session = stack.enter_context(Session(address, engine, params, mode="cloud"))
            session.prompt(prompt)
            for _ in session:
                pass
        before_s = [spent_s(process) for process in processes]
        time.sleep(idle_s)
        edges_s, server_s = (spent_s(one) - spent for one, spent in zip(processes, before_s, strict=True))
    return 100 * edges_s / idle_s, 100 * server_s / idle_s


def spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def process_at(port: int) -> psutil.Process:
    """The child of this process that listens on the port."""
    for process in psutil.Process().children(recursive=True):
        for one in process.net_connections("tcp"):
            if one.laddr.port == port and one.status == psutil.CONN_LISTEN:
                return process
    raise SystemExit("the server's process cannot be found.")


if __name__ == "__main__":
    sys.exit(main())
