"""How often guessers are right, as figures, a table and a picture: what every stage leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.core.calibration import Calibration, expected_calibration_error
from edgespec.core.whole_files import save_json
from edgespec.train.measure import Sight

REPORT_FILE, TABLE_FILE, PICTURE_FILE = "report.json", "README.md", "reliability.png"
_BINS = 10

Cells = dict[str, dict[str, Any]]
"""A guesser's figures by temperature."""


def write_report(
    folder: Path,
    title: str,
    seen: Mapping[float, Mapping[str, Sight]],
    calibrations: Mapping[str, Calibration],
    **facts: Any,
) -> dict[str, Any]:
    """Write report.json, README.md and, where matplotlib is installed, a picture; returns the figures."""
    agreement = {name: cells(seen, name, one) for name, one in calibrations.items()}
    save_json({"title": title, **facts, "agreement": agreement}, folder / REPORT_FILE)
    picture = draw(agreement, folder / PICTURE_FILE)
    lines = [f"# {title}", "", *table(agreement), ""]
    if picture:
        lines += ["What the calibrations state, and how often it is so:", "", f"![]({PICTURE_FILE})", ""]
    (folder / TABLE_FILE).write_text("\n".join(lines), encoding="utf-8")
    return agreement


def cells(seen: Mapping[float, Mapping[str, Sight]], name: str, calibration: Calibration) -> Cells:
    """How often this guesser's best token is the target's draw, by temperature."""
    found: Cells = {}
    for temperature, sights in seen.items():
        sight = sights[name]
        stated = np.asarray(calibration.probability(sight.margins, temperature))
        by_margin = np.argsort(sight.margins, kind="stable")
        found[str(temperature)] = {
            "rate": sight.rate,
            "by_depth": sight.by_depth(),
            "fifths": [
                float(sight.correct[part, 0].mean()) for part in np.array_split(by_margin, 5) if len(part)
            ],
            "ranks": sight.correct.mean(axis=0).tolist(),
            "calibration_error": expected_calibration_error(stated, sight.correct[:, 0]),
            "positions": len(sight.margins),
            "reliability": reliability(stated, sight.correct[:, 0]),
        }
    return found


def table(agreement: Mapping[str, Cells]) -> list[str]:
    """Markdown lines."""
    rows = [
        "| guesser | T | right | by fifths of the margin, % | at depth 1, 2, ... of a right chain, % | positions |",
        "|---|---:|---:|---|---|---:|",
    ]
    for name, by_temperature in agreement.items():
        for temperature, cell in by_temperature.items():
            figures = f"{cell['rate']:.3f} | {percents(cell['fifths'])} | {percents(cell['by_depth'])}"
            rows.append(f"| {name} | {temperature} | {figures} | {cell['positions']} |")
    return rows


def percents(rates: Sequence[float]) -> str:
    return " / ".join(f"{100 * rate:.0f}" for rate in rates)


def reliability(stated: np.ndarray[Any, Any], correct: np.ndarray[Any, Any]) -> list[list[float]]:
    """A reliability diagram: over equally filled bins, the mean stated probability, how often it came true, the
    count."""
    order = np.argsort(stated, kind="stable")
    return [
        [round(float(stated[part].mean()), 4), round(float(correct[part].mean()), 4), len(part)]
        for part in np.array_split(order, _BINS)
        if len(part)
    ]


def draw(agreement: Mapping[str, Cells], file: Path) -> bool:
    """Stated probability against frequency: a panel for each guesser, a line for each temperature. False: matplotlib
    is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError:
        return False
    figure, panels = pyplot.subplots(
        1, len(agreement), figsize=(2.6 * len(agreement), 2.9), sharey=True, squeeze=False
    )
    for (name, by_temperature), panel in zip(agreement.items(), panels[0], strict=True):
        panel.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        for temperature, cell in by_temperature.items():
            stated, frequency, _ = zip(*cell["reliability"], strict=True)
            label = f"T = {temperature}: {cell['rate']:.0%}"
            panel.plot(stated, frequency, marker="o", markersize=2.5, linewidth=1, label=label)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("stated probability", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=6, frameon=False)
    panels[0, 0].set_ylabel("how often right", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
    return True
