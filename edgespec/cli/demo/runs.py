"""The demo's runs: every prompt in every mode, over one emulated link to one server."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgespec.cli.child import child
from edgespec.cli.demo.figures import Pacing, Run
from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPacing
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
    """What is played. draft_tokens: block length in the modes that wait; blocks: by mode, where it differs."""

    link: LinkShape
    pacing: Pacing
    params: SamplingParams
    draft_tokens: int = 4
    server_options: tuple[str, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)

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
    """A server with the bundled models and a link to it, each in a process; yields the link's address.

    The server hosts no draft unless `server_options` say so: the demo shows what drafting on the device gains.
    """
    pacing, link = setting.pacing, setting.link
    server = ["serve", "--port", "0", "--threads", str(setting.server_threads), "--colocated-draft", "none"]
    server += setting.server_options
    if pacing.verify_ms:
        server += ["--verify-pace-ms", str(pacing.verify_ms), "--pace-rows", str(pacing.rows)]
    with child(server, "starting the server ...") as (host, port):
        proxy = ["link", "--to", f"{host}:{port}", "--rtt-ms", str(link.rtt_ms)]
        proxy += ["--jitter-ms", str(link.jitter_ms), "--jitter-seed", str(link.seed)]
        proxy += [] if link.mbps is None else ["--mbps", str(link.mbps)]
        with child(proxy, "starting the link ...") as address:
            yield address


@dataclass(frozen=True)
class _Edge:
    """The device of the demo: one draft engine that plays one text after another."""

    address: tuple[str, int]
    engine: DraftEngine
    tokenizer: Tokenizer
    setting: Setting

    def run(
        self, mode: str, number: int, prompt: str | list[int], tokens: int, known: Measurements
    ) -> tuple[Run, Measurements]:
        """known: what this mode's sessions have measured so far; returned with what this one adds."""
        trace: list[Event] = []
        with self._open(mode, number, tokens, known, trace) as session:
            session.prompt(prompt)
            arrivals = [(time.perf_counter(), len(step.tokens)) for step in session]
            steps, overruns = self.setting.pacing.overruns(session.statistics, trace)
            run = Run(
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
            return run, session.measurements if isinstance(session, Session) else known

    def _open(
        self, mode: str, number: int, tokens: int, known: Measurements, trace: list[Event]
    ) -> Session | DeviceSession:
        setting = self.setting
        seed = (setting.params.seed or 0) + number + 1
        params = SamplingParams(
            temperature=setting.params.temperature, seed=seed, max_new_tokens=tokens, ignore_eos=True
        )
        pace = DraftPacing(setting.pacing.draft_ms) if setting.pacing.draft_ms else None
        if mode == DEVICE:
            return DeviceSession(self.engine, params, tokenizer=self.tokenizer, draft_pace=pace, trace=trace)
        return Session(
            self.address,
            self.engine,
            params,
            mode=mode,
            draft_tokens=setting.blocks.get(mode, setting.draft_tokens if mode in WAITING_MODES else None),
            tokenizer=self.tokenizer,
            trace=trace,
            draft_pace=pace,
            measurements=known,
        )


def play(
    address: tuple[str, int],
    engine: DraftEngine,
    tokenizer: Tokenizer,
    setting: Setting,
    prompts: Sequence[str | list[int]],
    modes: Sequence[str],
) -> Iterator[Run]:
    """Warm up, then play each prompt in all modes in turn, so that a busy machine slows all of them down.

    A session starts from what its mode's earlier sessions measured, as on a device that has been running for long.
    """
    edge = _Edge(address, engine, tokenizer, setting)
    known = {mode: edge.run(mode, -1, prompts[0], WARM_UP_TOKENS, Measurements())[1] for mode in modes}
    for number, prompt in enumerate(prompts):
        for mode in modes:
            tokens = setting.params.max_new_tokens
            run, known[mode] = edge.run(mode, number, prompt, tokens, known[mode])
            yield run
