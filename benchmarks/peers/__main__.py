"""The pair with edgespec and with everything else: tokens a second through the same emulated link, in one run.

    python -m benchmarks.peers install          # vllm and llama.cpp, each into an environment of its own
    python -m benchmarks.peers [--quick]        # about six minutes; writes docs/results/peers.json

All servers stand at the same time, each computing on one thread, and take turns prompt by prompt; a pass over all
prompts is repeated. Greedy texts are compared token by token. Nothing is paced.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers import environments
from benchmarks.peers.clients import Address, Played, Task
from benchmarks.peers.cores import described, pinned
from benchmarks.peers.figures import cell_figures
from benchmarks.peers.roster import Peer, roster
from benchmarks.peers.servers import linked, serving
from benchmarks.peers.streamer import EARLY_EXIT_LAYER
from benchmarks.prompts import held_out_prompts
from benchmarks.results import FOLDER, results, save
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

NOTES = (
    "Links are emulated by a delaying proxy, engines run at full speed in float32, all on one machine: {cores}. "
    "edgespec reads its weights as bfloat16, which holds them exactly, and computes in float32; llama.cpp in bfloat16 "
    "rounds what it computes, too. "
    f"assistant_early_exit leaves the target after layer {EARLY_EXIT_LAYER}; it was not trained for that. "
    "edgespec's server hosts a draft as well, which mode colocated uses and auto may borrow. "
    "A session of edgespec starts from what the last one on that link measured, as on a device that is on for long."
)
WARM_UP_TOKENS = 8

Runs = dict[str, list[list[Played]]]


def main() -> int:
    arguments = _arguments()
    console = Console(stderr=True)
    if arguments.command == "install":
        return _install(console)
    engine = load_draft(bundled_engine())
    prompts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts)
    peers = [
        peer for peer in roster(engine) if not arguments.only or peer.name.startswith(tuple(arguments.only))
    ]
    cells: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        servers, missing = _start(stack, peers, console)
        stack.enter_context(pinned("edge"))
        for rtt_ms in arguments.rtts:
            with contextlib.ExitStack() as links:
                addresses = {
                    name: links.enter_context(linked(server, rtt_ms)) for name, server in servers.items()
                }
                for temperature in arguments.temperatures:
                    cells.append({})
                    for cell in _passes(
                        peers, addresses, dict(missing), prompts, (rtt_ms, temperature), arguments, console
                    ):
                        cells[-1] = cell
                        save(_results(cells), arguments.json)
                    _print(cells[-1], console)
    wrong = any(figures.get("text_differs") for cell in cells for figures in cell["peers"].values())
    return 1 if wrong else 0


def _install(console: Console) -> int:
    for name in environments.PACKAGES:
        console.print(f"installing {name} (at most {environments.TIMEOUT_S / 60:g} minutes a step) ...")
        try:
            console.print(f"{name}: {environments.install(name)}")
        except EdgespecError as error:
            console.print(str(error))
    return 0


def _start(
    stack: contextlib.ExitStack, peers: Sequence[Peer], console: Console
) -> tuple[dict[str, Address], dict[str, str]]:
    """The servers' addresses, and the reasons of those that there are none of."""
    servers, missing = {}, {}
    for name in dict.fromkeys(peer.server for peer in peers):
        try:
            servers[name] = stack.enter_context(serving(name))
        except EdgespecError as error:
            missing[name] = str(error)
            console.print(f"no {name}: {error}", markup=False)
    return servers, missing


def _passes(
    peers: Sequence[Peer],
    addresses: Mapping[str, Address],
    missing: dict[str, str],
    prompts: Sequence[list[int]],
    setting: tuple[float, float],
    arguments: argparse.Namespace,
    console: Console,
) -> Iterator[dict[str, Any]]:
    """Warm up, by a whole pass on the first link, where servers may compile what is new to them; then pass after pass
    over the prompts. Yields the cell as it is after each pass."""
    runs: Runs = {peer.name: [] for peer in peers}
    first = setting[0] == arguments.rtts[0]
    warm_up = (prompts, arguments.max_new_tokens) if first else (prompts[:1], WARM_UP_TOKENS)
    _pass(peers, addresses, missing, _tasks(warm_up[0], setting[1], warm_up[1]), console)
    for _ in range(arguments.passes):
        tasks = _tasks(prompts, setting[1], arguments.max_new_tokens)
        for name, played in _pass(peers, addresses, missing, tasks, console).items():
            runs[name].append(played)
        yield _cell(peers, runs, missing, prompts, setting)


def _tasks(prompts: Sequence[list[int]], temperature: float, max_new_tokens: int) -> list[Task]:
    return [Task(prompt, temperature, seed, max_new_tokens) for seed, prompt in enumerate(prompts, start=1)]


def _pass(
    peers: Sequence[Peer],
    addresses: Mapping[str, Address],
    missing: dict[str, str],
    tasks: Sequence[Task],
    console: Console,
) -> dict[str, list[Played]]:
    """Every prompt on every peer in turn; a server that fails is left out from then on, with the reason."""
    played: dict[str, list[Played]] = {peer.name: [] for peer in peers}
    for task in tasks:
        for peer in peers:
            if peer.server in missing:
                continue
            try:
                played[peer.name].append(peer.play(addresses[peer.server], task))
            except (EdgespecError, OSError, ValueError, KeyError) as error:
                missing[peer.server] = f"it failed in the run: {' '.join(str(error).split())[:200]}"
                console.print(f"{peer.name}: {missing[peer.server]}", markup=False)
    return {peer.name: played[peer.name] for peer in peers if peer.server not in missing}


def _cell(
    peers: Sequence[Peer],
    runs: Runs,
    missing: Mapping[str, str],
    prompts: Sequence[list[int]],
    setting: tuple[float, float],
) -> dict[str, Any]:
    rtt_ms, temperature = setting
    unavailable = {
        peer.name: {"unavailable": missing[peer.server]} for peer in peers if peer.server in missing
    }
    return {
        "setting": "peers",
        "rtt_ms": rtt_ms,
        "temperature": temperature,
        "prompts": len(prompts),
        "passes": max(len(passes) for passes in runs.values()),
        "peers": {**cell_figures(peers, runs, greedy=temperature == 0), **unavailable},
    }


def _results(cells: list[dict[str, Any]]) -> dict[str, Any]:
    content = results("peers", cells, NOTES.format(cores=described()))
    for name in environments.PACKAGES:
        with contextlib.suppress(EdgespecError):
            package = environments.PACKAGES[name][0]
            content["versions"][package] = environments.versions(name)[package]
    return content


def _print(cell: dict[str, Any], console: Console) -> None:
    console.print(f"RTT {cell['rtt_ms']:g} ms, T = {cell['temperature']:g}, {cell['passes']} passes:")
    for name, figures in cell["peers"].items():
        if "unavailable" in figures:
            console.print(f"  {name}: unavailable ({figures['unavailable']})", markup=False)
            continue
        speed = f"{figures['tokens_per_s']:6.1f} tokens/s ({figures['tokens_per_s_low']:.1f} to"
        wrong = f"  WRONG in {figures['differing_texts']} texts" if figures["text_differs"] else ""
        console.print(
            f"  {name:42} {speed} {figures['tokens_per_s_high']:.1f}){wrong}", markup=False, highlight=False
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=["run", "install"], default="run")
    parser.add_argument("--rtts", type=_numbers, default=[0.0, 20.0, 40.0])
    parser.add_argument("--temperatures", type=_numbers, default=[0.0, 0.8])
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--only", type=lambda text: text.split(","), help="peers whose names begin so")
    parser.add_argument("--quick", action="store_true", help="one pass, two prompts, greedy")
    parser.add_argument("--json", type=Path, default=FOLDER / "peers.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.passes, arguments.prompts, arguments.temperatures = 1, 2, [0.0]
    return arguments


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


if __name__ == "__main__":
    start_s = time.monotonic()
    try:
        status = main()
    except KeyboardInterrupt:
        sys.exit("interrupted: what was measured until then is kept.")
    print(f"{time.monotonic() - start_s:.0f} s", file=sys.stderr)
    sys.exit(status)
