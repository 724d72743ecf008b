"""How many servers a fleet needs, and what its tokens cost: many sessions on one server, on a simulated clock. Pure.

A device is asked for text now and then: `tokens_a_minute` on average. While it writes, it is one of the sessions that a
server runs together. More sessions make each slower; a server carries the most that still keep the latency asked for.
"""

from __future__ import annotations

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
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulated_edge import SimulatedEdge
from edgespec.sim.simulated_server import Peer, SimulatedServer
from edgespec.sim.simulation import Stuck
from edgespec.verifying.verifier import VerifierLimits

SESSIONS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of sessions that a server is tried with."""

BUSY = 0.8
"""How much of a server's throughput may be planned with: devices do not come evenly."""

CONTEXT_LENGTH = 4096


@dataclass(frozen=True)
class Demand:
    """devices: how many, each of which writes tokens_a_minute on average. latency_ms: the most that a token may take on
    average. gpu_hour_price, api_million_price: of an hour of one server's GPU, and of a million tokens of an API, in
    one currency. server_draft_ms: a run of a draft on the server, for co-located speculation. Raises EdgespecError."""

    devices: int = 100
    tokens_a_minute: float = 60.0
    latency_ms: float = 50.0
    gpu_hour_price: float = 2.0
    api_million_price: float = 1.0
    server_draft_ms: float = 2.0

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


def plan_fleet(
    situation: Situation, demand: Demand, modes: Sequence[str], tokens: int = 64
) -> list[FleetPlan]:
    """Each mode's plan. tokens: that each simulated session writes."""
    return [_plan(situation, demand, mode, tokens) for mode in modes]


def _plan(situation: Situation, demand: Demand, mode: str, tokens: int) -> FleetPlan:
    best_sessions, best_ms, best = 0, 0.0, 0.0
    for sessions in SESSIONS:
        server_draft_ms = demand.server_draft_ms if mode == "colocated" else None
        each_ms = together(situation, partial(policy, mode), sessions, tokens, server_draft_ms)
        token_ms = sum(each_ms) / sessions
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
    server_draft_ms: float | None = None,
) -> list[float]:
    """Milliseconds a token of each of this many sessions that write at once on one server. server_draft_ms: of a draft
    that the server hosts, which runs for all sessions in one batch; None: it hosts none."""
    clock, timing = Clock(), situation.timing(0)
    if server_draft_ms is not None:

        def batch_ms(rows: int) -> float:
            return server_draft_ms * (1 + situation.draft_row_share * (rows - 1))

        timing = replace(timing, server_draft_ms=batch_ms, joint_server_drafts=True)
    server = SimulatedServer(clock, timing)
    devices = [_Device(clock, server, situation, make_policy(), number) for number in range(1, sessions + 1)]
    for number, device in enumerate(devices):
        clock.after(situation.forward_ms * number / sessions, partial(device.begin, tokens))
    spent_ms: dict[_Device, float] = {}
    while len(spent_ms) < sessions:
        if not clock.run_next():
            raise Stuck(f"after {clock.now_ms:.1f} ms with {sessions} sessions")
        for device in devices:
            if device.ended and device not in spent_ms:
                spent_ms[device] = clock.now_ms - device.began_ms
    return [spent_ms[device] / tokens for device in devices]


class _Device:
    """One session of the many: an edge, and its link."""

    def __init__(
        self, clock: Clock, server: SimulatedServer, situation: Situation, policy: Policy, number: int
    ) -> None:
        timing, model = situation.timing(number), CalibratedModel(situation.acceptance, seed=number)
        self._clock, self._server, self._number = clock, server, number
        self._up, self._down = clock.link(timing.up_ms), clock.link(timing.down_ms)
        self._peer = Peer(model, self._send_down)
        self._edge = SimulatedEdge(clock, model, policy, timing, self._send_up)
        self.began_ms = 0.0

    @property
    def ended(self) -> bool:
        return self._edge.finish is not None

    def begin(self, tokens: int) -> None:
        self.began_ms = self._clock.now_ms
        options = self._edge.start(PROMPT, tokens)
        limits = VerifierLimits(CONTEXT_LENGTH)
        self._up(partial(self._server.open, self._number, self._peer, PROMPT, tokens, options, limits))
        self._edge.act()

    def _send_up(self, message: Block | ServerOptions) -> None:
        self._up(partial(self._server.receive, self._number, message))

    def _send_down(self, message: Hint | Verdict) -> None:
        self._down(partial(self._edge.receive, message))
