"""Tokens a second and time a token in every mode, over emulated links, on paced engines or at full speed.

    python -m benchmarks.latency --settings paper-jetson,a100-orin --json docs/results/latency.json

Server, link and edge are real: three processes, sockets, the bundled pair (or --pair), held-out prompts. Every prompt
is played in every mode in turn; the modes that wait draft blocks of the length that `edgespec plan` finds best for that
setting. A row whose text is not that of `cloud` is marked (`device` writes a text of its own), and void if engines
overran. Speeds have a 95 % interval over the prompts. All settings and the default modes take about 95 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interval import speed_interval
from benchmarks.pairs import HELP, Pair
from benchmarks.results import Results, Row, load, options, save
from benchmarks.settings import SETTINGS, LatencySetting, WrongDraft, save_wrong_exits
from edgespec.cli.demo.figures import Pacing, Run, mode_figures
from edgespec.cli.demo.runs import Setting, play, serving
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import DEVICE, WAITING_MODES
from edgespec.sim.plan import Situation, predict

MODES = ["cloud", "sync", "preempt", "auto"]
FIELDS = ("rtt_ms", "jitter_ms", "mbps", "draft_ms", "forward_ms", "scale", "wrong_draft", "server_draft_ms")
NOTES = (
    "Links are emulated by a delaying proxy; engines are paced where a row names milliseconds; server, link and edge "
    "share one machine."
)


def main() -> int:
    arguments = _arguments()
    pair = Pair.of(arguments.pair)
    prompts = pair.prompts(arguments.prompts)
    results = Results("latency", NOTES, arguments.json)
    named = [one for name in arguments.settings for one in SETTINGS[name] if one.rtt_ms in arguments.rtts]
    if arguments.update:
        _take_over(results, arguments, named)
    new = []
    for setting in (replace(one, scale=one.scale * arguments.scale) for one in named):
        modes = list(setting.modes) or list(dict.fromkeys(["cloud", *arguments.modes]))
        for temperature, sessions in itertools.product(arguments.temperatures, arguments.sessions):
            cold = sessions == "cold"
            served = (*pair.server_options, *arguments.serve.split())
            runs = list(
                _runs(setting, temperature, pair, served, prompts, modes, arguments.max_new_tokens, cold)
            )
            for row in _rows(setting, temperature, sessions, runs, modes):
                new.append(row)
                results.add(row)
    if arguments.update:
        order = list(SETTINGS)
        results.rows.sort(key=lambda row: (order.index(row["setting"]), row["rtt_ms"], row["wrong_draft"]))
        save(results.content, arguments.json)
    return 1 if any(row["text_differs"] for row in new) else 0


def _take_over(results: Results, arguments: argparse.Namespace, named: Sequence[LatencySetting]) -> None:
    """What the file has of other settings, temperatures and sessions, measured with the same code, and the command
    that did."""
    before = load(arguments.json)
    if before.get("code") != results.content["code"]:
        sys.exit(f"{arguments.json} was measured with other code: leave --update out.")
    played = {(one.name, one.rtt_ms, one.wrong_draft) for one in named}
    results.content["command"] = f"{before['command']}; {results.content['command']}"
    results.rows.extend(
        row
        for row in before["rows"]
        if (row["setting"], row["rtt_ms"], row["wrong_draft"]) not in played
        or row["temperature"] not in arguments.temperatures
        or row["sessions"] not in arguments.sessions
    )


def _runs(
    setting: LatencySetting,
    temperature: float,
    pair: Pair,
    served: Sequence[str],
    prompts: Sequence[list[int]],
    modes: Sequence[str],
    max_new_tokens: int,
    cold: bool,
) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as scratch:
        server = list(served)
        if setting.wrong_exits:
            save_wrong_exits(pair.exits, Path(scratch))
            server += ["--exits", scratch]
        if setting.server_draft_ms is not None:
            server += ["--colocated-draft", "auto"]
            server += ["--colocated-draft-pace-ms", str(setting.scaled(setting.server_draft_ms))]
        played = Setting(
            setting.link,
            Pacing(setting.scaled(setting.draft_ms), setting.scaled(setting.forward_ms)),
            SamplingParams(temperature=temperature, seed=0, max_new_tokens=max_new_tokens),
            server_options=tuple(server),
            blocks=_best_blocks(setting, pair.acceptance(temperature), modes),
            cold=cold,
        )
        draft: Any = WrongDraft(pair.engine, setting.wrong_draft) if setting.wrong_draft else pair.engine
        with serving(played) as address:
            yield from play(address, draft, pair.tokenizer, played, prompts, modes)


def _best_blocks(setting: LatencySetting, acceptance: float, modes: Sequence[str]) -> dict[str, int]:
    """The best length of a block for each mode that waits, by simulation with the pair's measured acceptance."""
    situation = Situation(
        rtt_ms=setting.rtt_ms,
        forward_ms=setting.forward_ms or 10.0,
        draft_ms=setting.draft_ms or 1.0,
        acceptance=acceptance * (1 - setting.wrong_draft),
    )
    waiting = [mode for mode in modes if mode in WAITING_MODES]
    return {mode: predict(situation, mode, tokens=200).draft_tokens or 4 for mode in waiting}


def _rows(
    setting: LatencySetting, temperature: float, sessions: str, runs: Sequence[Run], modes: Sequence[str]
) -> Iterator[Row]:
    """A row a mode: the setting, then the mode's figures."""
    of_mode = {mode: [run for run in runs if run.mode == mode] for mode in modes}
    cloud = of_mode["cloud"]
    for mode, own in of_mode.items():
        yield {
            "setting": setting.name,
            "temperature": temperature,
            "sessions": sessions,
            **{name: getattr(setting, name) for name in FIELDS},
            "prompts": len(cloud),
            "mode": mode,
            **mode_figures(own, cloud),
            **speed_interval(own, cloud),
            **gap_figures([run.arrivals for run in own]),
            "text_differs": None
            if mode == DEVICE
            else [run.tokens for run in own] != [run.tokens for run in cloud],
        }


def gap_figures(texts: Sequence[Sequence[tuple[float, int]]]) -> dict[str, float]:
    """Milliseconds between tokens, of texts' arrivals (seconds, tokens): tokens that come together share the wait."""
    gaps: list[float] = []
    for arrivals in texts:
        for (before_s, _), (now_s, tokens) in itertools.pairwise(arrivals):
            gaps += [(now_s - before_s) * 1e3 / max(1, tokens)] * tokens
    median, late, latest = np.percentile(gaps or [0.0], [50, 90, 99])
    return {"token_ms_median": float(median), "token_ms_p90": float(late), "token_ms_p99": float(latest)}


def _arguments() -> argparse.Namespace:
    quick = {"settings": ["go2"], "temperatures": [0.0], "prompts": 1, "max_new_tokens": 8}
    arguments = options(
        "latency", __doc__, quick,
        settings=([name for name in SETTINGS if name != "unpaced"], f"of {', '.join(SETTINGS)}"),
        rtts=(sorted({one.rtt_ms for all_of in SETTINGS.values() for one in all_of}), "only these, in ms"),
        modes=(MODES, "such as device, accept-all, predicted"),
        prompts=12, max_new_tokens=96, temperatures=[0.0, 0.8],
        sessions=(["cold"], "warm (from what earlier ones measured), cold (as on a new device), or both"),
        pair=(None, HELP), scale=(1.0, "all times are this many times as long, for a pair that needs longer"),
        serve=("", "further options of `edgespec serve`, such as '--threads 1'"),
        update=(False, "keep what --json FILE has of other settings, round trips, temperatures and sessions"),
    )  # fmt: skip
    if unknown := [name for name in arguments.sessions if name not in ("warm", "cold")]:
        sys.exit(f"sessions are warm or cold, not {unknown[0]!r}.")
    if unknown := [name for name in arguments.settings if name not in SETTINGS]:
        sys.exit(f"there is no setting {unknown[0]!r}: choose among {', '.join(SETTINGS)}.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
