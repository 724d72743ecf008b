"""Tokens a second and time a token in every mode, over emulated links, on paced engines or at full speed.

    python -m benchmarks.latency --settings paper-jetson,a100-orin --json docs/results/latency.json

Server, link and edge are real: three processes, sockets, the bundled pair, held-out prompts. Every prompt is played in
every mode in turn; the modes that wait draft blocks of the length that `edgespec plan` finds best for that setting. A
cell whose texts differ is marked wrong (`device` writes a text of its own); one whose engines overran their pace, void.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.broken import WrongDraft, save_wrong_exits
from benchmarks.prompts import held_out_prompts
from benchmarks.results import FOLDER, load, results, save
from benchmarks.settings import SETTINGS, LatencySetting
from edgespec.cli.demo.figures import Pacing, Run, identical, mode_figures
from edgespec.cli.demo.runs import Setting, play, serving
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import DEVICE, WAITING_MODES
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.sim.plan import Situation, predict

PAIR = bundled_engine().parent
MODES = "device,cloud,sync,preempt,accept-all,predicted,auto,auto-no-hints"
NOTES = (
    "Links are emulated by a delaying proxy; engines are paced where a cell names milliseconds; server, link and edge "
    "share one machine."
)


def main() -> int:
    arguments = _arguments()
    engine = load_draft(bundled_engine())
    prompts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts)
    modes = list(dict.fromkeys(["cloud", *arguments.modes.split(",")]))
    settings = [one for name in arguments.settings.split(",") for one in SETTINGS[name]]
    names = {setting.name for setting in settings}
    kept = _other_cells(arguments.json, names) if arguments.update else []
    cells: list[dict[str, Any]] = []
    grid = [(setting, temperature) for setting in settings for temperature in arguments.temperatures]
    with Progress(console=Console(stderr=True)) as progress:
        total = sum(len(setting.modes or modes) for setting, _ in grid) * len(prompts)
        task = progress.add_task("", total=total)
        for setting, temperature in grid:
            label = f"{setting.name}, {setting.rtt_ms:g} ms, T = {temperature:g}"
            runs, played = [], list(setting.modes or modes)
            for run in _runs(setting, temperature, engine, prompts, played, arguments.max_new_tokens):
                runs.append(run)
                progress.update(task, advance=1, description=label)
            cells.append(_cell(setting, temperature, runs, played))
            _print(cells[-1], progress.console)
            save(results("latency", _in_order([*kept, *cells]), NOTES), arguments.json)
    return 0 if all(cell["identical"] for cell in cells) else 1


def _other_cells(file: Path, names: Collection[str]) -> list[dict[str, Any]]:
    """What an earlier run found in settings that are not played now."""
    return [cell for cell in load(file, "latency")["cells"] if cell["setting"] not in names]


def _in_order(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    names = list(SETTINGS)
    return sorted(cells, key=lambda cell: names.index(cell["setting"]))


def _runs(
    setting: LatencySetting,
    temperature: float,
    engine: DraftEngine,
    prompts: Sequence[list[int]],
    modes: Sequence[str],
    max_new_tokens: int,
) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as scratch:
        exits = save_wrong_exits(PAIR / "exits", Path(scratch)) if setting.wrong_exits else None
        played = Setting(
            setting.link,
            Pacing(setting.scaled(setting.draft_ms), setting.scaled(setting.forward_ms)),
            SamplingParams(temperature=temperature, seed=0, max_new_tokens=max_new_tokens),
            server_options=(*_exits(exits), *_hosted(setting)),
            blocks=_best_blocks(setting, temperature, modes),
        )
        draft: Any = WrongDraft(engine, setting.wrong_draft) if setting.wrong_draft else engine
        tokenizer = Tokenizer.load(engine.tokenizer_path)
        with serving(played) as address:
            yield from play(address, draft, tokenizer, played, prompts, modes)


def _exits(folder: Path | None) -> list[str]:
    return [] if folder is None else ["--exits", str(folder)]


def _hosted(setting: LatencySetting) -> list[str]:
    """The server's own draft, for mode `colocated`, and for `auto` to borrow."""
    if setting.server_draft_ms is None:
        return []
    pace_ms = setting.scaled(setting.server_draft_ms)
    return ["--colocated-draft", "auto", "--colocated-draft-pace-ms", str(pace_ms)]


def _best_blocks(setting: LatencySetting, temperature: float, modes: Sequence[str]) -> dict[str, int]:
    """The best length of a block for each mode that waits, by simulation with the pair's measured acceptance."""
    situation = Situation(
        rtt_ms=setting.rtt_ms,
        forward_ms=setting.forward_ms or 10.0,
        draft_ms=setting.draft_ms or 1.0,
        acceptance=_acceptance(temperature) * (1 - setting.wrong_draft),
    )
    waiting = [mode for mode in modes if mode in WAITING_MODES]
    return {mode: predict(situation, mode, tokens=200).draft_tokens or 4 for mode in waiting}


def _acceptance(temperature: float) -> float:
    figures = json.loads((PAIR / "figures.json").read_text(encoding="utf-8"))
    return float(figures["draft"]["agreement"]["held_out"][str(0.8 if temperature else 0.0)]["rate"])


def _cell(
    setting: LatencySetting, temperature: float, runs: Sequence[Run], modes: Sequence[str]
) -> dict[str, Any]:
    of_mode = {mode: [run for run in runs if run.mode == mode] for mode in modes}
    return {
        "setting": setting.name,
        "source": setting.source,
        "temperature": temperature,
        "rtt_ms": setting.rtt_ms,
        "jitter_ms": setting.jitter_ms,
        "mbps": setting.mbps,
        "draft_ms": setting.draft_ms,
        "forward_ms": setting.forward_ms,
        "scale": setting.scale,
        "wrong_draft": setting.wrong_draft,
        "server_draft_ms": setting.server_draft_ms,
        "prompts": len(of_mode["cloud"]),
        "identical": identical(runs),
        "modes": {
            mode: {
                **mode_figures(own, of_mode["cloud"]),
                **_times(own),
                "text_differs": None if mode == DEVICE else _differs(own, of_mode["cloud"]),
            }
            for mode, own in of_mode.items()
        },
    }


def _times(runs: Sequence[Run]) -> dict[str, float]:
    """Milliseconds between tokens as a reader sees them (tokens that come together are spread evenly)."""
    gaps: list[float] = []
    for run in runs:
        for (before, _), (now, tokens) in zip(run.arrivals, run.arrivals[1:], strict=False):
            gaps += [(now - before) * 1e3 / max(1, tokens)] * tokens
    median, late, latest = np.percentile(gaps or [0.0], [50, 90, 99])
    return {"token_ms_median": float(median), "token_ms_p90": float(late), "token_ms_p99": float(latest)}


def _differs(runs: Sequence[Run], cloud: Sequence[Run]) -> bool:
    return any(run.tokens != plain.tokens for run, plain in zip(runs, cloud, strict=True))


def _print(cell: dict[str, Any], console: Console) -> None:
    speeds = "  ".join(
        f"{mode} {'WRONG' if figures['text_differs'] else format(figures['speed_vs_cloud'], '.2f')}"
        f"{' (void)' if figures['void'] else ''}"
        for mode, figures in cell["modes"].items()
    )
    auto = cell["modes"].get("auto")
    more = f"  bytes a token {auto['bytes_per_token']:.0f}" if auto else ""
    console.print(f"{cell['setting']} {cell['rtt_ms']:g} ms T={cell['temperature']:g}:  {speeds}{more}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--settings",
        default="paper-jetson,paper-rtx,go2,a100-orin,rough-link,acceptance,wrong-draft,wrong-exits,hosted-draft",
    )
    parser.add_argument("--modes", default=MODES)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument(
        "--temperatures", type=lambda text: [float(one) for one in text.split(",")], default=[0.0, 0.8]
    )
    parser.add_argument("--update", action="store_true", help="Keep what the file has of other settings.")
    parser.add_argument("--json", type=Path, default=FOLDER / "latency.json")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.settings.split(",") if name not in SETTINGS]:
        parser.error(f"there is no setting {unknown[0]!r}: choose among {', '.join(SETTINGS)}.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
