"""The demo's pictures: a timeline of edge, link and cloud for each mode, and a bar chart of their speeds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespec.cli.demo.figures import Run, speed
from edgespec.cli.extras import needs
from edgespec.core.errors import EdgespecError
from edgespec.edge.trace import Event

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANES = {"cloud": 3.0, "down": 2.0, "up": 1.0, "edge": 0.0}
KINDS = {
    "draft": ("#4c78a8", "draft run"),
    "block": ("#72b7b2", "block, on its way up"),
    "hint": ("#f2a541", "hint, on its way down"),
    "verdict": ("#54a24b", "verdict, on its way down"),
    "forward": ("#9d7ab8", "target forward (tokens committed)"),
}
"""Of each kind of event: its colour, and its meaning in the legend."""


def timeline(runs: Sequence[Run], file: Path, title: str, forwards: int = 10) -> None:
    """The first `forwards` target forwards of each run, one strip per mode, on one time axis."""
    span_s = max(_span_s(run.trace, forwards) for run in runs)
    with picture(file, len(runs), figsize=(12, 1.9 * len(runs) + 1), sharex=True) as (figure, strips):
        from matplotlib.patches import Patch

        for run, strip in zip(runs, strips[:, 0], strict=True):
            _draw_strip(strip, run, span_s)
        strips[-1, 0].set_xlabel("milliseconds since the prompt")
        legend = [Patch(color=colour, label=meaning) for colour, meaning in KINDS.values()]
        figure.legend(handles=legend, loc="lower center", ncols=len(legend), frameon=False, fontsize=9)
        figure.suptitle(title, fontsize=11)
        figure.tight_layout(rect=(0, 0.05, 1, 1))


def speeds(figures: Mapping[str, Mapping[str, Any]], file: Path, title: str) -> None:
    """Tokens per second of each mode, with its ratio to cloud."""
    with picture(file, figsize=(8, 0.6 * len(figures) + 1.4)) as (figure, panels):
        axes = panels[0, 0]
        names = list(figures)[::-1]
        bars = axes.barh(names, [figures[name]["tokens_per_s"] for name in names], color=KINDS["draft"][0])
        axes.bar_label(bars, [speed(figures[name]) for name in names], padding=4)
        axes.set_xlabel("tokens/s")
        axes.margins(x=0.2)
        axes.set_title(title, fontsize=9, loc="right")
        figure.tight_layout()


def _span_s(trace: Sequence[Event], forwards: int) -> float:
    ends = [event.end_s for event in trace if event.kind == "forward"][:forwards]
    return ends[-1] - trace[0].start_s if ends else 0.0


def _draw_strip(axes: Axes, run: Run, span_s: float) -> None:
    start_s, committed = run.trace[0].start_s, 0
    for event in run.trace:
        if event.start_s - start_s > span_s:
            continue
        left_ms, width_ms = (event.start_s - start_s) * 1e3, (event.end_s - event.start_s) * 1e3
        lane, colour = LANES[event.lane], KINDS[event.kind][0]
        axes.barh(lane, width_ms, left=left_ms, height=0.62, color=colour, edgecolor="white", linewidth=0.4)
        if event.kind == "forward":
            count = str(event.detail["tokens"])
            axes.text(left_ms + width_ms / 2, lane, count, ha="center", va="center", fontsize=7, clip_on=True)
            committed += int(count) if event.end_s - start_s <= span_s else 0
    axes.set_yticks(list(LANES.values()), list(LANES))
    axes.set_title(f"{run.mode}: {committed} tokens", loc="left", fontsize=10)
    axes.set_xlim(0, span_s * 1e3)


@contextlib.contextmanager
def picture(file: Path, rows: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """As `canvas`, without upper and right spines; saves the figure at the end."""
    with canvas(file, rows, **settings) as (figure, axes):
        for one in axes.flat:
            one.spines[["top", "right"]].set_visible(False)
        yield figure, axes
        figure.savefig(file, dpi=110)


@contextlib.contextmanager
def canvas(file: Path, rows: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a matplotlib figure, to be saved to `file`, and its array [rows, 1] of axes.

    settings: of `pyplot.subplots`. Raises EdgespecError without matplotlib, or if the file cannot be written.
    """
    with needs("demo"):
        import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, squeeze=False, **settings)
    try:
        yield figure, axes
    except (OSError, ValueError) as error:
        raise EdgespecError(f"the picture cannot be written to {file}: {error}.") from None
    finally:
        pyplot.close(figure)
