"""How many servers a fleet needs, and what its tokens cost: many sessions on one server, on a simulated clock. Pure.

A device is asked for text now and then: `tokens_a_minute` on average. While it writes, it is one of the sessions that a
server runs together. More sessions make each slower; a server carries the most that still keep the latency asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.modes import policy
from edgespec.drafting.policy import Policy
from edgespec.sim.clock import Clock
from edgespec.sim.plan import PROMPT, Situation
from edgespec.sim.scripted_model import VOCABULARY, CalibratedModel
from edgespec.sim.simulated_edge import SimulatedEdge
from edgespec.sim.simulated_server import Peer, SimulatedServer
from edgespec.sim.simulation import Stuck
from edgespec.verifying.verifier import VerifierLimits

SESSIONS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of sessions that a server is tried with."""

BUSY = 0.8
"""How much of a server's throughput may be planned with: devices do not come evenly."""

CONTEXT_LENGTH = 4096

STEADY_TEXTS = 16
"""That count at least, of all devices together."""


@dataclass(frozen=True)
class Demand:
    """devices: how many, each of which writes tokens_a_minute on average. latency_ms: the most that a token may take on
    average. gpu_hour_price, api_million_price: of an hour of one server's GPU, and of a million tokens of an API, in
    one currency. server_draft_ms: a run of a draft on the server, for co-located speculation. text_tokens,
    prompt_tokens: of a text that a device asks for, and of the prompt before it. Raises EdgespecError."""

    devices: int = 100
    tokens_a_minute: float = 60.0
    latency_ms: float = 50.0
    gpu_hour_price: float = 2.0
    api_million_price: float = 1.0
    server_draft_ms: float = 2.0
    text_tokens: int = 64
    prompt_tokens: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise EdgespecError(f"{name} must be above 0, not {value:g}.")

    @property
    def tokens_per_s(self) -> float:
        """Of all devices."""
        return self.devices * self.tokens_a_minute / 60


@dataclass(frozen=True)
class FleetPlan:
    """What a mode needs. sessions: that one server runs together within the latency, each at `token_ms`; 0: not even
    one. devices: that a server carries. cost_million: of a million tokens, in the currency of the prices."""

    mode: str
    sessions: int
    token_ms: float
    server_tokens_per_s: float
    devices: float
    replicas: int
    cost_million: float


def plan_fleet(situation: Situation, demand: Demand, modes: Sequence[str]) -> list[FleetPlan]:
    """Each mode's plan."""
    return [_plan(situation, demand, mode) for mode in modes]


def _plan(situation: Situation, demand: Demand, mode: str) -> FleetPlan:
    best_sessions, best_ms, best = 0, 0.0, 0.0
    for sessions in SESSIONS:
        server_draft_ms = demand.server_draft_ms if mode == "colocated" else None
        texts = [(demand.text_tokens, demand.prompt_tokens)]
        token_ms = steady(situation, partial(policy, mode), sessions, texts, server_draft_ms)
        if not best_sessions:
            best_ms = token_ms
        if token_ms > demand.latency_ms:
            break
        best_sessions, best_ms, best = sessions, token_ms, max(best, sessions / token_ms * 1e3)
    if not best_sessions:
        return FleetPlan(mode, 0, best_ms, 0.0, 0.0, 0, math.inf)
    replicas = math.ceil(demand.tokens_per_s / (BUSY * best) - 1e-9)
    cost = replicas * demand.gpu_hour_price / (demand.tokens_per_s * 3600) * 1e6
    devices = BUSY * best * 60 / demand.tokens_a_minute
    return FleetPlan(mode, best_sessions, best_ms, best, devices, replicas, cost)


def together(
    situation: Situation,
    make_policy: Callable[[], Policy],
    sessions: int,
    tokens: int,
    acceptances: Sequence[float] = (),
    first_seed: int = 1,
) -> list[float]:
    """Milliseconds a token of each of this many sessions that write one text at once on one server. acceptances: of the
    sessions, in turn; none: the situation's. first_seed: of the first session; further ones count on."""
    clock, texts = Clock(), list[_Text]()
    server = SimulatedServer(clock, situation.timing(0))
    situations = [replace(situation, acceptance=one) for one in acceptances] or [situation]

    def begin(number: int) -> None:
        own = situations[number % len(situations)]
        texts.append(_Text(clock, server, own, make_policy(), first_seed + number))
        texts[-1].begin(PROMPT, tokens)

    for number in range(sessions):
        clock.after(situation.forward_ms * number / sessions, partial(begin, number))
    _run(clock, lambda: len(texts) == sessions and all(text.ended for text in texts))
    return [text.spent_ms / tokens for text in texts]


def steady(
    situation: Situation,
    make_policy: Callable[[], Policy],
    devices: int,
    texts: Sequence[tuple[int, int]],
    server_draft_ms: float | None = None,
) -> float:
    """Milliseconds a token where this many devices write text after text on one server, each text in a session of its
    own: from the connection's first packet to the last token. texts: the tokens of each and of its prompt, in turn.
    A device's first text is cut, so that texts begin at different times from then on, and does not count.
    server_draft_ms: of a draft that the server hosts, which runs for all sessions in one batch; None: it hosts none."""
    clock, timing = Clock(), situation.timing(0)
    if server_draft_ms is not None:

        def batch_ms(rows: int) -> float:
            return server_draft_ms * (1 + situation.draft_row_share * (rows - 1))

        timing = replace(timing, server_draft_ms=batch_ms, joint_server_drafts=True)
    server, numbers = SimulatedServer(clock, timing), itertools.count(1)
    each = math.ceil(max(STEADY_TEXTS, len(texts)) / devices)
    done: list[list[tuple[float, int]]] = [[] for _ in range(devices)]

    def write(device: int, share: float = 1.0) -> None:
        def ended() -> None:
            done[device].append((text.spent_ms, tokens))
            write(device)

        number = next(numbers)
        tokens, prompt_tokens = texts[number % len(texts)]
        tokens = math.ceil(share * tokens)
        text = _Text(clock, server, situation, make_policy(), number, ended)
        text.connect(partial(text.begin, [number % VOCABULARY] * prompt_tokens, tokens))

    for device in range(devices):
        write(device, (device + 1) / devices)
    _run(clock, lambda: all(len(ones) > each for ones in done))
    spent_ms, tokens = map(sum, zip(*(one for ones in done for one in ones[1 : each + 1]), strict=True))
    return float(spent_ms / tokens)


def _run(clock: Clock, done: Callable[[], bool]) -> None:
    while not done():
        if not clock.run_next():
            raise Stuck(f"after {clock.now_ms:.1f} ms")


class _Text:
    """One text of a device, in a session of its own: an edge, and its link. on_end: called when it knows its end."""

    def __init__(
        self,
        clock: Clock,
        server: SimulatedServer,
        situation: Situation,
        policy: Policy,
        number: int,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        timing, model = situation.timing(number), CalibratedModel(situation.acceptance, seed=number)
        self._clock, self._server, self._number, self._on_end = clock, server, number, on_end
        self._up, self._down = clock.link(timing.up_ms), clock.link(timing.down_ms)
        self._peer = Peer(model, self._send_down)
        self._edge = SimulatedEdge(clock, model, policy, timing, self._send_up, on_finish=self._end)
        self._began_ms, self._ended_ms = clock.now_ms, math.inf

    @property
    def ended(self) -> bool:
        return self._ended_ms < math.inf

    @property
    def spent_ms(self) -> float:
        return self._ended_ms - self._began_ms

    def connect(self, then: Callable[[], None]) -> None:
        """A round trip for the connection, and one for the welcome, which the server gives between two forwards."""
        welcome = partial(self._server.between_forwards, partial(self._down, then))
        self._up(partial(self._down, partial(self._up, welcome)))

    def begin(self, prompt: Sequence[int], tokens: int) -> None:
        options = self._edge.start(prompt, tokens)
        limits = VerifierLimits(CONTEXT_LENGTH)
        self._up(partial(self._server.open, self._number, self._peer, prompt, tokens, options, limits))
        self._edge.act()

    def _end(self) -> None:
        if not self.ended:
            self._ended_ms = self._clock.now_ms
            self._on_end()

    def _send_up(self, message: Block | ServerOptions) -> None:
        self._up(partial(self._server.receive, self._number, message))

    def _send_down(self, message: Hint | Verdict) -> None:
        self._down(partial(self._edge.receive, message))
