"""The demo's pictures: a timeline of edge, link and cloud in each mode, and a bar of tokens a second for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespec.cli.demo.figures import Run
from edgespec.edge.trace import Event

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANES = {"cloud": 3.0, "down": 2.0, "up": 1.0, "edge": 0.0}
COLOURS = {
    "draft": "#4c78a8",
    "block": "#72b7b2",
    "hint": "#f2a541",
    "verdict": "#54a24b",
    "forward": "#9d7ab8",
}
MEANINGS = {
    "draft": "draft run",
    "block": "block, on its way up",
    "hint": "hint, on its way down",
    "verdict": "verdict, on its way down",
    "forward": "target forward (tokens committed)",
}


def timeline(runs: Sequence[Run], file: Path, title: str, forwards: int = 10) -> None:
    """The first `forwards` forwards of each run, one strip a mode, on one time axis."""
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    span_s = max(_span_s(run.trace, forwards) for run in runs)
    figure, strips = pyplot.subplots(
        len(runs), 1, figsize=(12, 1.9 * len(runs) + 1), sharex=True, squeeze=False
    )
    for run, strip in zip(runs, strips[:, 0], strict=True):
        _strip(strip, run, span_s)
    strips[-1, 0].set_xlabel("milliseconds since the prompt")
    legend = [Patch(color=COLOURS[kind], label=meaning) for kind, meaning in MEANINGS.items()]
    figure.legend(handles=legend, loc="lower center", ncols=len(legend), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def speeds(figures: Mapping[str, Mapping[str, Any]], file: Path, title: str) -> None:
    """Tokens a second, a bar a mode, with its ratio to cloud."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.6 * len(figures) + 1.4))
    names = list(figures)[::-1]
    bars = axes.barh(names, [figures[name]["tokens_per_s"] for name in names], color="#4c78a8")
    axes.bar_label(bars, [f"{figures[name]['speed_vs_cloud']:.2f}×" for name in names], padding=4)
    axes.set_xlabel("tokens a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=9, loc="right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _span_s(trace: Sequence[Event], forwards: int) -> float:
    ends = [event.end_s for event in trace if event.kind == "forward"][:forwards]
    return ends[-1] - trace[0].start_s if ends else 0.0


def _strip(axes: Axes, run: Run, span_s: float) -> None:
    start_s = run.trace[0].start_s
    for event in run.trace:
        if event.start_s - start_s > span_s:
            continue
        left_ms, width_ms = (event.start_s - start_s) * 1e3, (event.end_s - event.start_s) * 1e3
        lane = LANES[event.lane]
        colour = COLOURS[event.kind]
        axes.barh(lane, width_ms, left=left_ms, height=0.62, color=colour, edgecolor="white", linewidth=0.4)
        if event.kind == "forward":
            count, middle_ms = str(event.detail["tokens"]), left_ms + width_ms / 2
            axes.text(middle_ms, lane, count, ha="center", va="center", fontsize=7, clip_on=True)
    forwards = [event for event in run.trace if event.kind == "forward"]
    committed = sum(_tokens(event) for event in forwards if event.end_s - start_s <= span_s)
    axes.set_yticks(list(LANES.values()), list(LANES))
    axes.set_title(f"{run.mode}: {committed} tokens in this stretch", loc="left", fontsize=10)
    axes.set_xlim(0, span_s * 1e3)
    axes.spines[["top", "right"]].set_visible(False)


def _tokens(event: Event) -> int:
    return int(str(event.detail["tokens"]))
