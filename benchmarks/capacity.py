"""How many devices does one server carry? Tokens a second of many sessions against one, and what a known prompt saves.

    python -m benchmarks.capacity                       # every part
    python -m benchmarks.capacity --parts unpaced paced

The devices are synthetic: their drafts replay the target's own text, right at 60 % of the positions. Each part's
figures are ratios within one run on one server; every text is compared with what its session got alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.fleet import Job, Outcome, differing, random_prompt, serving
from benchmarks.overload import CAPACITY, fairness
from benchmarks.overload import overload as twice_the_sessions
from benchmarks.results import FOLDER, results, save
from benchmarks.sharing import capacity_against_colocated
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import POLICIES

Cell = dict[str, Any]
MODES = ("cloud", "sync", "auto")
DRAFT_MS = 6.0
PROMPT_TOKENS = 16
LONG_PROMPT_TOKENS = 1000
NOTES = (
    "Devices are synthetic: drafts replay the target's text, right at 60 % of the positions, 6 ms a token; server and "
    "devices share one machine. Forwards are paced where a cell names milliseconds."
)


def main() -> int:
    arguments = _arguments()
    console = Console()
    cells: list[Cell] = []
    for name in arguments.parts:
        for cell in PARTS[name](arguments):
            cells.append(cell)
            console.print("  ".join(f"{key} {_short(value)}" for key, value in cell.items()), soft_wrap=True)
            save(results("capacity", cells, NOTES), arguments.json)
    return 0 if all(not cell.get("differing_texts") for cell in cells) else 1


# The parts


def unpaced(arguments: argparse.Namespace) -> list[Cell]:
    """Eight sessions against one, at full speed."""
    return _many_against_one("unpaced", arguments, 8, 2.5, [])


def paced(arguments: argparse.Namespace) -> list[Cell]:
    """32 sessions against one, a forward held to 28 ms."""
    return _many_against_one("paced, 28 ms a forward", arguments, 32, 12.0, ["--verify-pace-ms", "28"])


def prefix(arguments: argparse.Namespace) -> list[Cell]:
    """The start of a server, and a 1,000-token prompt to its first token: new, and seen before."""
    before_s = time.monotonic()
    with serving(*_options(arguments)) as fleet:
        start_s = time.monotonic() - before_s
        pairs = []
        for number in range(5):
            job = Job(random_prompt(1000 + number, LONG_PROMPT_TOKENS), _params(number, 2), "cloud")
            pairs.append([fleet.play([job])[0].arrivals[0][0] * 1e3 for _ in range(2)])
    new_ms, again_ms = np.median(np.array(pairs), axis=0)
    return [
        {"part": "server start", "seconds": start_s, "target": "<= 10", "met": start_s <= 10},
        {
            "part": "1,000-token prompt, seen before",
            "first_token_new_ms": float(new_ms),
            "first_token_ms": float(again_ms),
            "times": float(new_ms / again_ms),
            "target": ">= 5",
            "met": bool(new_ms / again_ms >= 5),
        },
    ]


def colocated(arguments: argparse.Namespace) -> list[Cell]:
    """How many more sessions the same server carries when devices draft, not the server."""
    return capacity_against_colocated(_options(arguments), arguments.seconds)


def overload(arguments: argparse.Namespace) -> list[Cell]:
    """Twice the sessions that a server carries, and the shares of those that it does."""
    jobs = recorded(arguments, 2 * CAPACITY, 256)
    return [play(_options(arguments), jobs, arguments.seconds) for play in (twice_the_sessions, fairness)]


def deterministic(arguments: argparse.Namespace) -> list[Cell]:
    """Sixteen sessions together on a deterministic server against each alone on it, in every mode."""
    cells = []
    with serving(*_options(arguments), "--deterministic") as fleet:
        for temperature in (0.0, 0.8):
            jobs = [
                replace(job, params=replace(job.params, temperature=temperature))
                for job in _jobs(16, min(48, arguments.tokens))
            ]
            jobs = [replace(job, text=fleet.play([job])[0].tokens) for job in jobs]
            for mode in (mode for mode in POLICIES if mode != "stream"):
                wrong = differing(jobs, outcomes := fleet.play([replace(job, mode=mode) for job in jobs]))
                wrong += sum(len(one.tokens) < len(job.text) for one, job in zip(outcomes, jobs, strict=True))
                cells.append(
                    {
                        "part": f"deterministic, T = {temperature:g}",
                        "mode": mode,
                        "sessions": len(jobs),
                        "tokens_per_s": rate(outcomes),
                        "target": "0 differ",
                        "met": wrong == 0,
                        "differing_texts": wrong,
                    }
                )
    return cells


PARTS: dict[str, Callable[[argparse.Namespace], list[Cell]]] = {
    "unpaced": unpaced,
    "paced": paced,
    "colocated": colocated,
    "overload": overload,
    "deterministic": deterministic,
    "prefix": prefix,
}


# What they share


def _many_against_one(
    part: str, arguments: argparse.Namespace, sessions: int, least: float, options: list[str]
) -> list[Cell]:
    """`sessions` at once against one alone, on the same server, in every mode."""
    cells = []
    jobs = recorded(arguments, sessions)
    with serving(*_options(arguments), *options) as fleet:
        for mode in MODES:
            own = [replace(job, mode=mode, text=[] if mode == "cloud" else job.text) for job in jobs]
            fleet.play(own[:1])  # warm
            alone, many = fleet.play(own[:1]), fleet.play(own)
            times = rate(many) / rate(alone)
            gaps_ms = [gap for outcome in many for gap in outcome.gaps_ms]
            cells.append(
                {
                    "part": part,
                    "mode": mode,
                    "sessions": sessions,
                    "tokens_per_s_of_one": rate(alone),
                    "tokens_per_s": rate(many),
                    "times": times,
                    "target": f">= {least:g}",
                    "met": times >= least,
                    "token_ms_median": float(np.median(gaps_ms)),
                    "token_ms_p99": float(np.percentile(gaps_ms, 99)),
                    "differing_texts": differing([*jobs[:1], *jobs], [*alone, *many]),
                }
            )
    return cells


def _options(arguments: argparse.Namespace) -> list[str]:
    return ["--threads", str(arguments.threads), "--dtype", arguments.dtype]


def _params(number: int, tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0.8, seed=number, max_new_tokens=tokens, ignore_eos=True)


def recorded(arguments: argparse.Namespace, count: int, tokens: int | None = None) -> list[Job]:
    """Jobs with the texts that each session gets alone, in mode `cloud` on an unpaced server."""
    with serving(*_options(arguments)) as fleet:
        return [
            replace(job, text=fleet.play([job])[0].tokens) for job in _jobs(count, tokens or arguments.tokens)
        ]


def _jobs(count: int, tokens: int) -> list[Job]:
    return [
        Job(random_prompt(number, PROMPT_TOKENS), _params(number, tokens), "cloud", draft_ms=DRAFT_MS)
        for number in range(count)
    ]


def rate(outcomes: Sequence[Outcome]) -> float:
    """Tokens a second of all together, from the common start to the last one's end."""
    return sum(len(outcome.tokens) for outcome in outcomes) / max(outcome.seconds for outcome in outcomes)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--tokens", type=int, default=128, help="of each text")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run that ends by the clock")
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, default=FOLDER / "capacity.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
