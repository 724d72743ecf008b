"""The demo's runs: every prompt in every mode, over one emulated link to one server."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgespec.cli.child import Child, child, started
from edgespec.cli.demo.figures import Pacing, Run
from edgespec.cli.streaming import open_session
from edgespec.core.measurements import Measurements
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import WAITING_MODES
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.session import Session
from edgespec.edge.trace import Event
from edgespec.engines.draft_engine import DraftEngine
from edgespec.sim.emulated_link import LinkShape

PROMPTS = Path(__file__).parent / "prompts.json"

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Setting:
    """What is played. draft_tokens: block length in the modes that wait; blocks: by mode, where it differs. cold: each
    session starts as the first on a device does, and not from what its mode's earlier sessions measured."""

    link: LinkShape
    pacing: Pacing
    params: SamplingParams
    draft_tokens: int = 4
    server_options: tuple[str, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    cold: bool = False

    @property
    def server_threads(self) -> int:
        """One for a paced target; otherwise half of the cores, because edge and link need some too."""
        return 1 if self.pacing.verify_ms else max(1, (os.cpu_count() or 2) // 2)


def bundled_prompts(count: int) -> list[str]:
    """The first `count` of the demo's prompts, repeated if there are fewer."""
    prompts: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    return [prompts[i % len(prompts)] for i in range(count)]


@contextlib.contextmanager
def serving(setting: Setting) -> Iterator[tuple[str, int]]:
    """A server and an emulated link to it; yields the link's address."""
    with server(setting) as behind, link_to(behind, setting.link) as link:
        yield link.address


@contextlib.contextmanager
def server(setting: Setting) -> Iterator[tuple[str, int]]:
    """A server with the bundled models, in a process, or with others where `server_options` name them.

    The server hosts no draft unless `server_options` say so: the demo shows what drafting on the device gains.
    """
    pacing = setting.pacing
    command = ["serve", "--port", "0", "--threads", str(setting.server_threads), "--colocated-draft", "none"]
    command += setting.server_options
    if pacing.verify_ms:
        command += ["--verify-pace-ms", str(pacing.verify_ms), "--pace-rows", str(pacing.rows)]
    with child(command, "starting the server ...") as address:
        yield address


@contextlib.contextmanager
def link_to(address: tuple[str, int], link: LinkShape) -> Iterator[Child]:
    """An emulated link to this address, in a process."""
    host, port = address
    proxy = ["link", "--to", f"{host}:{port}", "--rtt-ms", str(link.rtt_ms)]
    proxy += ["--jitter-ms", str(link.jitter_ms), "--jitter-seed", str(link.seed)]
    proxy += ["--loss-percent", str(link.loss_percent), "--retransmit-ms", str(link.retransmit_ms)]
    proxy += [] if link.mbps is None else ["--mbps", str(link.mbps)]
    with started(proxy, "starting the link ...") as process:
        yield process


def play(
    address: tuple[str, int],
    engine: DraftEngine,
    tokenizer: Tokenizer,
    setting: Setting,
    prompts: Sequence[str | list[int]],
    modes: Sequence[str],
) -> Iterator[Run]:
    """Warm up, then play each prompt in all modes in turn, so that a busy machine slows all of them down.

    Unless the setting is cold, a session starts from what its mode's earlier sessions measured, as on a device that has
    been running for long.
    """
    known = {mode: Measurements() for mode in modes}
    for number, prompt in [(-1, prompts[0]), *enumerate(prompts)]:
        tokens = WARM_UP_TOKENS if number < 0 else setting.params.max_new_tokens
        seed = (setting.params.seed or 0) + number + 1
        params = replace(setting.params, seed=seed, max_new_tokens=tokens, ignore_eos=True)
        for mode in modes:
            trace: list[Event] = []
            session = open_session(
                [address],
                engine,
                params,
                mode=mode,
                draft_pace_ms=setting.pacing.draft_ms,
                trace=trace,
                tokenizer=tokenizer,
                draft_tokens=setting.blocks.get(
                    mode, setting.draft_tokens if mode in WAITING_MODES else None
                ),
                measurements=known[mode],
            )
            with session:
                run = _run(session, number, prompt, setting.pacing, trace)
                known[mode] = Measurements() if setting.cold else session.measurements
            if number >= 0:
                yield run


def _run(
    session: Session | DeviceSession,
    number: int,
    prompt: str | list[int],
    pacing: Pacing,
    trace: list[Event],
) -> Run:
    session.prompt(prompt)
    arrivals = [(time.perf_counter(), len(step.tokens)) for step in session]
    steps, overruns = pacing.overruns(session.statistics, trace)
    tokens = tuple(session.tokens)
    return Run(session.policy.name, number, tokens, session.statistics, steps, overruns, trace, arrivals)
