"""Who takes part: each peer's name, the server that it needs, and how one text is played on it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.clients import Address, EdgespecMode, Played, Task, play_completion, play_lines
from edgespec.engines.draft_engine import DraftEngine

EDGESPEC_MODES = ("cloud", "colocated", "sync", "preempt", "auto")

TRANSFORMERS = {
    "plain": "transformers plain",
    "assistant_model": "transformers assistant_model",
    "assistant_model of 4": "transformers assistant_model, blocks of 4",
    "assistant_early_exit": "transformers assistant_early_exit",
    "prompt look-up": "transformers prompt look-up",
}
LLAMA_CPP = {"plain": "llama.cpp plain", "prompt look-up": "llama.cpp prompt look-up"}


@dataclass(frozen=True)
class Peer:
    """own_noise: when it samples, its random numbers are its own, so that its texts are others than edgespec's.
    rounds: it computes in less than float32, so that even its greedy texts may be others."""

    name: str
    server: str
    play: Callable[[Address, Task], Played]
    own_noise: bool = True
    rounds: bool = False


def roster(engine: DraftEngine) -> list[Peer]:
    """Everyone, in the order of the tables; the first is what greedy texts are compared with."""
    peers = [
        Peer(name, "transformers", functools.partial(play_lines, method=method))
        for method, name in TRANSFORMERS.items()
    ]
    peers += [
        Peer("vllm plain", "vllm", play_completion),
        Peer("vllm draft model", "vllm-draft", play_completion),
    ]
    peers += [
        Peer(name, "llama-cpp", functools.partial(play_lines, method=method))
        for method, name in LLAMA_CPP.items()
    ]
    peers.append(
        Peer(
            "llama.cpp plain, bfloat16",
            "llama-cpp-bf16",
            functools.partial(play_lines, method="plain"),
            rounds=True,
        )
    )
    peers += [
        Peer(
            f"edgespec {mode}",
            "edgespec",
            EdgespecMode(engine, mode),
            own_noise=False,
        )
        for mode in EDGESPEC_MODES
    ]
    return peers
