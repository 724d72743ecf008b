"""The pair with edgespec and with everything else: tokens a second through the same emulated link, in one run.

    python -m benchmarks.peers install          # vllm and llama.cpp, each into an environment of its own
    python -m benchmarks.peers [--quick]        # about six minutes

All servers stand at the same time, each computing on one thread, and take turns prompt by prompt; a pass over all
prompts is repeated. Greedy texts are compared token by token. Nothing is paced.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.latency import gap_figures
from benchmarks.pairs import HELP, Pair
from benchmarks.peers import environments
from benchmarks.peers.clients import Address, Peer, Played, Task, roster
from benchmarks.peers.servers import PINNED, link, pinned, start
from benchmarks.results import Results, Row, options
from edgespec.core.errors import EdgespecError

CORES = "server on two cores, edge on one, link on one" if PINNED else "processes are not pinned to cores"
NOTES = (
    f"Links are emulated by a delaying proxy, engines run at full speed in float32, all on one machine: {CORES}, each "
    "side computing on one thread. edgespec reads its weights as bfloat16, which holds them exactly, and computes in "
    "float32; llama.cpp in bfloat16 rounds what it computes, too. "
    "assistant_early_exit leaves the target after a quarter of its layers; it was not trained for that. "
    "edgespec's server hosts a draft as well, which mode colocated uses and auto may borrow. "
    "A session of edgespec starts from what the last one on that link measured, as on a device that is on for long."
)

Passes = list[list[Played]]
"""One peer's runs: pass by pass, prompt by prompt."""


def main() -> int:
    if sys.argv[1:] == ["install"]:
        return _install()
    quick = {"rtts": [0.0], "temperatures": [0.0], "prompts": 1, "passes": 1, "max_new_tokens": 8}
    arguments = options(
        "peers", __doc__, quick, rtts=[0.0, 20.0, 40.0], temperatures=[0.0, 0.8], prompts=3, passes=3,
        max_new_tokens=48, pair=(None, HELP),
        only=(["edgespec", "transformers", "vllm", "llama.cpp"], "peers whose names begin so"),
    )  # fmt: skip
    pair = Pair.of(arguments.pair)
    prompts = pair.prompts(arguments.prompts)
    peers = [peer for peer in roster(pair) if peer.name.startswith(tuple(arguments.only))]
    results = Results("peers", NOTES, arguments.json)
    for name, (package, *_) in environments.PACKAGES.items():
        with contextlib.suppress(EdgespecError):
            results.content["versions"][package] = environments.versions(name)[package]
    servers: dict[str, Address] = {}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name in dict.fromkeys(peer.server for peer in peers):
            try:
                servers[name] = start(stack, name, pair)
            except EdgespecError as error:
                missing[name] = str(error)
        stack.enter_context(pinned("edge"))
        for rtt_ms in arguments.rtts:
            addresses = {name: link(stack, server, rtt_ms) for name, server in servers.items()}
            for temperature in arguments.temperatures:
                length = arguments.max_new_tokens
                tasks = [Task(prompt, temperature, seed, length) for seed, prompt in enumerate(prompts, 1)]
                first = rtt_ms == arguments.rtts[0]  # where servers may compile: warm up by all prompts
                _passes(peers, addresses, missing, tasks if first else tasks[:1], 1)
                runs = _passes(peers, addresses, missing, tasks, arguments.passes)
                setting = {"rtt_ms": rtt_ms, "temperature": temperature, "prompts": len(prompts)}
                for row in _rows(peers, runs, missing, greedy=temperature == 0):
                    results.add({**setting, "passes": arguments.passes, **row})
    return 1 if any(row.get("text_differs") for row in results.rows) else 0


def _install() -> int:
    for name in environments.PACKAGES:
        print(f"installing {name} ...", flush=True)
        try:
            print(f"{name}: {environments.install(name)}")
        except EdgespecError as error:
            print(f"{name} could not be installed: {error}")
    return 0


def _passes(
    peers: Sequence[Peer],
    addresses: Mapping[str, Address],
    missing: dict[str, str],
    tasks: Sequence[Task],
    count: int,
) -> dict[str, Passes]:
    """Every prompt on every peer in turn; a server that fails is left out from then on, with the reason."""
    runs: dict[str, Passes] = {peer.name: [[] for _ in range(count)] for peer in peers}
    for index, task in itertools.product(range(count), tasks):
        for peer in (peer for peer in peers if peer.server not in missing):
            try:
                runs[peer.name][index].append(peer.play(addresses[peer.server], task))
            except (EdgespecError, OSError, ValueError, KeyError) as error:
                missing[peer.server] = f"it failed in the run: {' '.join(str(error).split())[:200]}"
    return runs


def _rows(
    peers: Sequence[Peer], runs: Mapping[str, Passes], missing: Mapping[str, str], greedy: bool
) -> Iterator[Row]:
    """Greedy texts must be those of the first peer that computes in float32, sampled ones edgespec's first."""
    expected = None
    for peer in peers:
        if peer.server in missing:
            yield {"peer": peer.name, "unavailable": missing[peer.server]}
            continue
        own = runs[peer.name]
        row = {"peer": peer.name, **speed_figures(own), "text_differs": None, "differing_texts": None}
        if not peer.rounds and (greedy or not peer.own_noise):
            expected = expected or [run.tokens for run in own[0]]
            differing = sum(
                run.tokens != text for one in own for run, text in zip(one, expected, strict=True)
            )
            row |= {"text_differs": differing > 0, "differing_texts": differing}
        yield row


def speed_figures(passes: Passes) -> dict[str, Any]:
    """tokens_per_s: of each pass over all prompts, the median, least and most; times of all runs together."""
    speeds = [sum(len(run.tokens) for run in one) / sum(run.seconds for run in one) for one in passes]
    runs = [run for one in passes for run in one]
    return {
        "tokens": sum(len(run.tokens) for run in runs),
        "tokens_per_s": median(speeds),
        "tokens_per_s_low": min(speeds),
        "tokens_per_s_high": max(speeds),
        "ttft_ms_median": median(run.arrivals[0][0] for run in runs) * 1e3,
        **gap_figures([run.arrivals for run in runs]),
    }


if __name__ == "__main__":
    sys.exit(main())
