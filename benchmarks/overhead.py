"""What edgespec itself costs: milliseconds a forward and a draft run beside the engines', and processor time when idle.

    python -m benchmarks.overhead --json docs/results/overhead.json

A forward's overhead is the time between two verdicts of `cloud` less the forward's own: server loop, wire, session. A
draft run's is the session's work between engine runs, in `auto`. Idle: sessions are open, their texts finished; all
edges share one process, so that one of them is taken to cost its share.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from rich.console import Console

from benchmarks.prompts import held_out_prompts
from benchmarks.results import FOLDER, results, save
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

Address = tuple[str, int]
TARGET_MS, TARGET_SHARE = 0.5, 0.01
SERVE = ["serve", "--port", "0", "--threads", "1", "--colocated-draft", "none"]
NOTES = "Loopback, no emulated link; engines at full speed, the server computing on one thread."


class TimedEngine:
    """A draft engine that adds up the time of its runs."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, *arguments: Any, **options: Any) -> Any:
        start_s = time.perf_counter()
        result = self._engine.run(*arguments, **options)
        self.seconds += time.perf_counter() - start_s
        return result


def main() -> int:
    arguments = _arguments()
    engine = load_draft(bundled_engine())
    prompts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts)
    with child(SERVE, "starting the server ...") as address:
        server = _process_at(address[1])
        _gaps_ms(address, engine, prompts[0])
        gaps_ms = [gap for prompt in prompts for gap in _gaps_ms(address, engine, prompt)]
        drafting_ms = [_drafting_ms(address, engine, prompt) for prompt in prompts]
        edge, idle = _idle_shares(address, server, engine, prompts[0], arguments.sessions, arguments.idle_s)
    cells = [
        _cell("a forward, beside the target's", "ms", float(np.median(gaps_ms)), TARGET_MS),
        _cell("a draft run, beside the engine's", "ms", float(np.median(drafting_ms)), TARGET_MS),
        _cell(f"server, {arguments.sessions} idle sessions", "% of a core", 100 * idle, 100 * TARGET_SHARE),
        _cell("edge, one idle session", "% of a core", 100 * edge / arguments.sessions, 100 * TARGET_SHARE),
    ]
    save(results("overhead", cells, NOTES), arguments.json)
    for cell in cells:
        Console().print(
            f"{cell['of']}: {cell['measured']:.3f} {cell['unit']} (at most {cell['at most']:g}) {cell['target']}"
        )
    return 0


def _cell(of: str, unit: str, measured: float, limit: float) -> dict[str, Any]:
    verdict = "met" if measured <= limit else "missed"
    return {"of": of, "unit": unit, "measured": measured, "at most": limit, "target": verdict}


def _gaps_ms(address: Address, engine: DraftEngine, prompt: list[int]) -> list[float]:
    """Between each verdict and the next in `cloud`, less the forward; the prompt's own is left out."""
    params = SamplingParams(max_new_tokens=48, ignore_eos=True)
    arrivals_s = []
    with Session(address, engine, params, mode="cloud") as session:
        session.prompt(prompt)
        for step in session:
            if step.tokens:
                arrivals_s.append((time.perf_counter(), step.statistics.forward_ms))
    pairs = itertools.pairwise(arrivals_s)
    return [(now - before) * 1e3 - (spent - earlier) for (before, earlier), (now, spent) in pairs]


def _drafting_ms(address: Address, engine: DraftEngine, prompt: list[int]) -> float:
    timed: Any = TimedEngine(engine)
    params = SamplingParams(temperature=0.8, seed=1, max_new_tokens=48, ignore_eos=True)
    with Session(address, timed, params) as session:
        session.prompt(prompt)
        for _ in session:
            pass
        return (session.statistics.draft_ms - timed.seconds * 1e3) / session.statistics.draft_runs


def _idle_shares(
    address: Address,
    server: psutil.Process,
    engine: DraftEngine,
    prompt: list[int],
    sessions: int,
    idle_s: float,
) -> tuple[float, float]:
    """Processor seconds a second of this process and of the server's, while so many sessions are open and idle."""
    params = SamplingParams(max_new_tokens=1, ignore_eos=True)
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            session = stack.enter_context(Session(address, engine, params, mode="cloud"))
            session.prompt(prompt)
            for _ in session:
                pass
        before = _spent_s(psutil.Process()), _spent_s(server)
        time.sleep(idle_s)
        after = _spent_s(psutil.Process()), _spent_s(server)
    return (after[0] - before[0]) / idle_s, (after[1] - before[1]) / idle_s


def _spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _process_at(port: int) -> psutil.Process:
    for process in psutil.Process().children(recursive=True):
        if any(
            one.laddr.port == port and one.status == psutil.CONN_LISTEN
            for one in process.net_connections("tcp")
        ):
            return process
    raise SystemExit("the server's process cannot be found.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=100, help="that are open and idle")
    parser.add_argument("--idle-s", type=float, default=15.0)
    parser.add_argument("--quick", action="store_true", help="one prompt, ten sessions, three seconds")
    parser.add_argument("--json", type=Path, default=FOLDER / "overhead.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.prompts, arguments.sessions, arguments.idle_s = 1, 10, 3.0
    return arguments


if __name__ == "__main__":
    sys.exit(main())
