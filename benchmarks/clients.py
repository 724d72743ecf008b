"""How many clients a server carries when devices draft, against co-located speculation at the same latency.

    python -m benchmarks.clients --json docs/results/clients.json          # forwards 28 ms, drafts 6 ms, link 40 ms
    python -m benchmarks.clients --scale 10                                # ten times as long, for a busy machine

Co-located, a round takes the server `gamma` runs of its draft and a forward; where devices draft, the forward alone. So
it may carry 1 + gamma * t_draft / t_verify times the clients: the published bound. Both modes are measured in this run
with 1, 2, 4, ... clients. For each latency that co-located clients had, a row says how many clients `auto` has within
it, between two measured numbers in proportion. The server's draft runs for one session after the other.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from benchmarks.load import Load
from benchmarks.results import Results, Row, options

NOTES = (
    "Target forwards and drafts are paced, the link is emulated: all on one machine. Devices are synthetic: their "
    "drafts replay the target's text, right at a given share; the server's draft is the bundled one."
)


def main() -> int:
    arguments = _arguments()
    results = Results("clients", NOTES, arguments.json)
    counts = [int(one) for one in arguments.devices]
    had: dict[str, list[tuple[int, float]]] = {}
    for mode in ("colocated", "auto"):
        with ExitStack() as stack:
            load = Load(stack, _load(arguments, mode))
            for devices in counts:
                row = load.phase(devices, [])
                latency_ms = 1e3 * devices / max(1e-9, row["tokens_per_s"])
                had.setdefault(mode, []).append((devices, latency_ms))
                results.add({"mode": mode, "clients": devices, "token_ms": latency_ms, "right": row["met"]})
    for devices, latency_ms in had["colocated"]:
        results.add(_beside(arguments, devices, latency_ms, carried(had["auto"], latency_ms)))
    return 0 if all(row.get("right", True) for row in results.rows) else 1


def carried(measured: Sequence[tuple[int, float]], latency_ms: float) -> float:
    """The clients within this latency, of (clients, latency) with ever more clients. Beyond the last nobody knows: it
    is the least."""
    if measured[0][1] > latency_ms:
        return 0.0
    for (few, few_ms), (many, many_ms) in itertools.pairwise(measured):
        if many_ms > latency_ms:
            return few + (many - few) * (latency_ms - few_ms) / (many_ms - few_ms)
    return float(measured[-1][0])


def _beside(arguments: Any, devices: int, latency_ms: float, clients: float) -> Row:
    bound = 1 + arguments.gamma * arguments.draft_ms / arguments.forward_ms
    ratio = clients / devices
    row = {
        "mode": "auto beside colocated",
        "clients": devices,
        "token_ms": latency_ms,
        "auto_clients": clients,
    }
    return {**row, "gamma": arguments.gamma, "times": ratio, "bound": bound, "reached": ratio >= bound}


def _load(arguments: Any, mode: str) -> SimpleNamespace:
    """What benchmarks/load.py plays: every device behind the link, text after text."""
    scale = arguments.scale
    serve = ["--threads", "1", "--deterministic", "--kv-memory", "1GiB", "--pace-rows", "1024"]
    serve += ["--verify-pace-ms", f"{arguments.forward_ms * scale:g}"]
    if mode == "colocated":
        serve += ["--colocated-draft", "auto", "--colocated-draft-pace-ms", f"{arguments.draft_ms * scale:g}"]
        serve += ["--colocated-draft-tokens", str(arguments.gamma)]
    return SimpleNamespace(
        serve=serve, slow_share=1.0, link=["--rtt-ms", f"{arguments.rtt_ms * scale:g}"], devices=arguments.devices,
        modes=[mode], think_s=0.0, draft_ms=arguments.draft_ms * scale, acceptance=arguments.acceptance,
        break_off=0.0, tokens=arguments.tokens, minutes=arguments.minutes, kill_every_s=0.0,
    )  # fmt: skip


def _arguments() -> Any:
    quick = {"devices": [1, 2], "minutes": 0.1, "tokens": 8}
    return options(
        "clients", __doc__, quick,
        devices=([1, 2, 4, 8, 16, 32], "numbers of them, ever more, a phase each in both modes"),
        minutes=1.0,
        tokens=(40, "of each text"),
        forward_ms=(28.0, "the pace of the target's forwards"),
        gamma=(4, "tokens that the server's draft proposes for a forward"),
        draft_ms=(6.0, "of a device's draft and of the server's, a token"),
        rtt_ms=(40.0, "of the link"),
        scale=(1.0, "times as long, all of them"),
        acceptance=(0.6, "how often a device's draft is right"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
