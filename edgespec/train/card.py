"""The model card: the pair's README.md, written from its measured figures; no number in it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from edgespec.train.corpus import LEFT_OUT_FOLDERS, LICENCE, MOST_BYTES
from edgespec.train.data import HELD_OUT_SHARE
from edgespec.train.figures import FIGURES_FILE, measure_pair
from edgespec.train.report import PICTURE_FILE, draw, percents
from edgespec.train.run import Run

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(pair: Path, run: Run) -> dict[str, Any]:
    """Measure the pair in `pair`; write figures.json and README.md there; return the figures. What figures.json says of
    another draft, whose place this one takes, stays in the card."""
    figures = measure_pair(pair, run)
    figures["earlier_draft"] = earlier_draft(pair / FIGURES_FILE, figures)
    (pair / FIGURES_FILE).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    guessers = {"draft": figures["draft"]["agreement"]["own"]}
    guessers |= {f"after layer {layer}": one["own"] for layer, one in figures["exits"]["agreement"].items()}
    draw(guessers, pair / PICTURE_FILE)
    (pair / "README.md").write_text(render(figures), encoding="utf-8")
    return figures


def earlier_draft(path: Path, figures: dict[str, Any]) -> dict[str, Any] | None:
    """How the draft before this one was trained, and how often it was right; None: this is the first one."""
    if not path.exists():
        return None
    before = json.loads(path.read_text(encoding="utf-8"))
    draft = before["draft"]
    if draft["training"] == figures["draft"]["training"]:
        return before.get("earlier_draft")  # type: ignore[no-any-return]
    rates = {temperature: cell["rate"] for temperature, cell in draft["agreement"]["own"].items()}
    return {"training": draft["training"], "rates": rates}


def render(figures: dict[str, Any]) -> str:
    """The card as Markdown."""
    return filled(
        TEMPLATE,
        **figures,
        total_bytes=sum(file["bytes"] for file in figures["files"].values()),
        held_out_share=HELD_OUT_SHARE,
        most_bytes=MOST_BYTES,
        left_out=sorted(LEFT_OUT_FOLDERS),
        licence=LICENCE,
        millions=lambda count: f"{count / 1e6:.2f} M",
        rate=lambda value: f"{value:.3f}",
        percents=percents,
    )


def filled(template: Path, **values: Any) -> str:
    """A template of Jinja with its values, none of which may be missing."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
