"""The model card: the pair's README.md, written from its measured figures; no number in it is typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from edgespec.train.corpus import HELD_OUT_SHARE, LEFT_OUT_FOLDERS, LICENCE, MOST_BYTES
from edgespec.train.figures import FIGURES_FILE, measure_pair
from edgespec.train.recipe import Run

RELIABILITY_FILE = "reliability.png"

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(pair: Path, run: Run) -> dict[str, Any]:
    """Measure the pair in `pair`; write figures.json and README.md there; return the figures."""
    figures = measure_pair(pair, run)
    (pair / FIGURES_FILE).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw_reliability(figures, pair / RELIABILITY_FILE)
    (pair / "README.md").write_text(render(figures), encoding="utf-8")
    return figures


def draw_reliability(figures: dict[str, Any], file: Path) -> None:
    """Stated probability against frequency on the target's own text: a panel for each guesser, a line for each
    temperature."""
    from matplotlib import pyplot

    guessers = {"draft": figures["draft"]["agreement"]["own"]}
    guessers |= {
        f"exit after layer {layer}": found["own"] for layer, found in figures["exits"]["agreement"].items()
    }
    figure, panels = pyplot.subplots(
        1, len(guessers), figsize=(2.6 * len(guessers), 2.9), sharey=True, squeeze=False
    )
    for (name, cells), panel in zip(guessers.items(), panels[0], strict=True):
        panel.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        for temperature, cell in cells.items():
            stated, frequency, _ = zip(*cell["reliability"], strict=True)
            panel.plot(stated, frequency, marker="o", markersize=2.5, linewidth=1, label=f"T = {temperature}")
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("stated probability", fontsize=8)
        panel.tick_params(labelsize=7)
    panels[0, 0].set_ylabel("how often right", fontsize=8)
    panels[0, 0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    pyplot.close(figure)


def render(figures: dict[str, Any]) -> str:
    """The card as Markdown."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        **figures,
        total_bytes=sum(file["bytes"] for file in figures["files"].values()),
        held_out_share=HELD_OUT_SHARE,
        most_bytes=MOST_BYTES,
        left_out=sorted(LEFT_OUT_FOLDERS),
        licence=LICENCE,
        millions=lambda count: f"{count / 1e6:.2f} M",
        rate=lambda value: f"{value:.3f}",
        percents=_percents,
    )


def _percents(rates: Sequence[float]) -> str:
    return " / ".join(f"{100 * rate:.0f}" for rate in rates)
