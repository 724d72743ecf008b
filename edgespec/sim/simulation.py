"""One generation on a simulated clock: the edge's and the server's own machines, no models, no sockets. Pure.

A `ScriptedModel` says what the target, the draft and the exits would answer behind a given text. `simulate` plays a
generation by discrete events and returns the text and the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from edgespec._native import TextIndex
from edgespec.core.measurements import Measurements
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import DraftCounts
from edgespec.sim.clock import Clock
from edgespec.sim.simulated_edge import SimulatedEdge
from edgespec.sim.simulated_server import Peer, SimulatedServer
from edgespec.sim.timing import ScriptedModel, Timing
from edgespec.verifying.verifier import VerifierLimits

SESSION = 1

__all__ = ["Outcome", "ScriptedModel", "Stuck", "Timing", "simulate"]


@dataclass
class Outcome:
    """What a simulated generation gave. history: what was sent, and when (ms)."""

    text: list[int]
    finish: str | None
    milliseconds: float
    counts: DraftCounts
    forwards: int
    history: list[tuple[float, str]]


class Stuck(Exception):
    """Nothing is left to happen and the text is not finished."""


def simulate(
    scripted: ScriptedModel,
    policy: Policy,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    timing: Timing | None = None,
    end_tokens: Sequence[int] = (),
    context_length: int = 2048,
    draft_capacity: int | None = None,
    guesses: bool = True,
    memory: TextIndex | None = None,
    measurements: Measurements | None = None,
) -> Outcome:
    """Play one generation. guesses: see `VerifierLimits`. memory: texts that the device remembers. measurements: of an
    earlier one, which are changed.

    Raises Stuck when it would hang.
    """
    timing = timing or Timing()
    clock, history = Clock(), list[tuple[float, str]]()
    up, down = clock.link(timing.up_ms), clock.link(timing.down_ms)

    def send_up(message: Block | ServerOptions) -> None:
        if isinstance(message, Block):
            history.append((clock.now_ms, f"block of {len(message.tokens)}"))
        up(partial(server.receive, SESSION, message))

    def send_down(message: Hint | Verdict) -> None:
        event = "hint" if isinstance(message, Hint) else f"verdict of {len(message.tokens)}"
        history.append((clock.now_ms, event))
        down(partial(edge.receive, message))

    server, peer = SimulatedServer(clock, timing), Peer(scripted, send_down)
    edge = SimulatedEdge(clock, scripted, policy, timing, send_up, draft_capacity, measurements)
    if memory is not None:
        edge.loop.use_memory(memory)
    options = edge.start(prompt, max_new_tokens)
    limits = VerifierLimits(context_length, end_tokens, guesses=guesses)
    up(partial(server.open, SESSION, peer, prompt, max_new_tokens, options, limits))
    edge.act()
    while edge.finish is None and clock.run_next():
        pass
    text = edge.loop.text[len(prompt) :]
    if edge.finish is None:
        raise Stuck(f"after {clock.now_ms:.1f} ms with {len(text)} tokens committed")
    return Outcome(text, edge.finish, clock.now_ms, edge.loop.counts, server.forwards(SESSION), history)
