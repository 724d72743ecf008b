"""The demo's runs: the same prompts in every mode, prompt by prompt, over one link to one server."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgespec.cli.demo.figures import Pacing, Run
from edgespec.core.child import child
from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPace
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import DEVICE, WAITING_MODES
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.session import Session
from edgespec.edge.trace import Event
from edgespec.engines.draft_engine import DraftEngine
from edgespec.sim.emulated_link import LinkShape

PROMPTS = Path(__file__).parent / "prompts.json"

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Setting:
    """What the demo plays: the link, the paces, the sampling, the length of a block in the modes that wait.

    blocks: lengths for single modes, before `draft_tokens`.
    """

    link: LinkShape
    pacing: Pacing
    params: SamplingParams
    draft_tokens: int = 4
    server_options: tuple[str, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)

    @property
    def server_threads(self) -> int:
        """A paced target needs but one; one at full speed half of the cores: the edge and the link want theirs."""
        return 1 if self.pacing.verify_ms else max(1, (os.cpu_count() or 2) // 2)


def bundled_prompts(count: int) -> list[str]:
    """The first `count` of the demo's prompts, again from the first when there are not so many."""
    prompts: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    return [prompts[i % len(prompts)] for i in range(count)]


@contextlib.contextmanager
def serving(setting: Setting) -> Iterator[tuple[str, int]]:
    """A server on the bundled pair and the link before it, each a process; yields the link's address.

    It lends no draft unless `server_options` say so: what is shown is what drafting on the device gains.
    """
    serve = ["serve", "--port", "0", "--threads", str(setting.server_threads), "--colocated-draft", "none"]
    serve += setting.server_options
    if setting.pacing.verify_ms:
        serve += ["--verify-pace-ms", str(setting.pacing.verify_ms), "--pace-rows", str(setting.pacing.rows)]
    shape = setting.link
    with child(serve, "starting the server ...") as (host, port):
        arguments = [
            "link",
            "--listen",
            "127.0.0.1:0",
            "--to",
            f"{host}:{port}",
            "--rtt-ms",
            str(shape.rtt_ms),
        ]
        arguments += ["--jitter-ms", str(shape.jitter_ms), "--jitter-seed", str(shape.seed)]
        arguments += [] if shape.mbps is None else ["--mbps", str(shape.mbps)]
        with child(arguments, "starting the link ...") as address:
            yield address


def play(
    address: tuple[str, int],
    engine: DraftEngine,
    tokenizer: Tokenizer,
    setting: Setting,
    prompts: Sequence[str | list[int]],
    modes: Sequence[str],
) -> Iterator[Run]:
    """Warm up, then every prompt in every mode in turn (A B C A B C), so that a busy machine is busy for all.

    A mode's session starts from what the one before it measured, as on a device that is on for long.
    """
    learnt = {mode: Measurements() for mode in modes}
    for mode in modes:
        _run(address, engine, tokenizer, setting, mode, -1, prompts[0], WARM_UP_TOKENS, learnt)
    for number, prompt in enumerate(prompts):
        for mode in modes:
            tokens = setting.params.max_new_tokens
            yield _run(address, engine, tokenizer, setting, mode, number, prompt, tokens, learnt)


def _run(
    address: tuple[str, int],
    engine: DraftEngine,
    tokenizer: Tokenizer,
    setting: Setting,
    mode: str,
    number: int,
    prompt: str | list[int],
    max_new_tokens: int,
    learnt: dict[str, Measurements],
) -> Run:
    trace: list[Event] = []
    params = SamplingParams(
        temperature=setting.params.temperature,
        seed=(setting.params.seed or 0) + number + 1,
        max_new_tokens=max_new_tokens,
        ignore_eos=True,
    )
    pace = DraftPace(setting.pacing.draft_ms) if setting.pacing.draft_ms else None
    block = setting.blocks.get(mode, setting.draft_tokens if mode in WAITING_MODES else None)
    session = (
        DeviceSession(engine, params, tokenizer=tokenizer, draft_pace=pace, trace=trace)
        if mode == DEVICE
        else Session(
            address,
            engine,
            params,
            mode=mode,
            draft_tokens=block,
            tokenizer=tokenizer,
            trace=trace,
            draft_pace=pace,
            measurements=learnt[mode],
        )
    )
    with session:
        session.prompt(prompt)
        arrivals = [(time.perf_counter(), len(step.tokens)) for step in session]
        if isinstance(session, Session):
            learnt[mode] = session.measurements
        steps, overruns = setting.pacing.overruns(session.statistics, trace)
        return Run(
            mode,
            number,
            tuple(session.tokens),
            session.text,
            session.statistics,
            steps,
            overruns,
            trace,
            arrivals,
        )
