"""Results as pictures: tokens a second over the round trip, all alternatives in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgespec.drafting.modes import DEVICE

Content = dict[str, Any]

FAMILIES = {"edgespec": "-", "transformers": "--", "vllm": ":", "llama.cpp": "-."}
"""How lines are drawn: ours whole, others broken."""


def peers_plot(content: Content, file: Path) -> None:
    """One panel a temperature; wrong and missing cells are left out."""
    from matplotlib import pyplot

    cells = content["cells"]
    temperatures = sorted({cell["temperature"] for cell in cells})
    figure, panels = pyplot.subplots(
        1, len(temperatures), figsize=(6.2 * len(temperatures) + 3, 5), sharey=True, squeeze=False
    )
    for temperature, panel in zip(temperatures, panels[0], strict=True):
        own = [cell for cell in cells if cell["temperature"] == temperature]
        for name in dict.fromkeys(name for cell in cells for name in cell["peers"]):
            family = name.split()[0]
            points = [
                (cell["rtt_ms"], cell["peers"][name]) for cell in own if _valid(cell["peers"].get(name))
            ]
            heavy = 2.8 if name == "edgespec auto" else 1.3
            panel.plot(
                [rtt_ms for rtt_ms, _ in points],
                [figures["tokens_per_s"] for _, figures in points],
                FAMILIES.get(family, "-"),
                marker="o",
                markersize=4,
                linewidth=heavy,
                label=name,
            )
        panel.set_title(f"T = {temperature:g}", fontsize=10)
        _axes(panel, "tokens a second" if panel is panels[0][0] else "")
    panels[0][-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, file, f"The same pair, prompts and emulated link, full speed; {_hardware(content)}")


def latency_plot(content: Content, file: Path) -> None:
    """Speed against cloud over the round trip, one panel a setting that was measured at several."""
    from matplotlib import pyplot

    names = _swept(content["cells"])
    if not names:
        return
    figure, panels = pyplot.subplots(1, len(names), figsize=(6 * len(names), 4.6), squeeze=False)
    for (name, temperature), panel in zip(names, panels[0], strict=True):
        cells = [
            one for one in content["cells"] if (one["setting"], one["temperature"]) == (name, temperature)
        ]
        for mode in (mode for mode in cells[0]["modes"] if mode != DEVICE and not mode.endswith("no-hints")):
            points = [
                (cell["rtt_ms"], cell["modes"][mode]["speed_vs_cloud"])
                for cell in cells
                if not (cell["modes"][mode]["void"] or cell["modes"][mode]["text_differs"])
            ]
            panel.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker="o",
                markersize=4,
                linewidth=2.8 if mode == "auto" else 1.3,
                label=mode,
            )
        panel.set_title(f"{name}, T = {temperature:g}", fontsize=10)
        panel.legend(fontsize=8, frameon=False)
        _axes(panel, "times as fast as streamed cloud decoding" if panel is panels[0][0] else "")
    _save(figure, file, f"Modes over the emulated round trip; {_hardware(content)}")


def _swept(cells: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    measured: dict[tuple[str, float], set[float]] = {}
    for cell in cells:
        measured.setdefault((cell["setting"], cell["temperature"]), set()).add(cell["rtt_ms"])
    return [name for name, round_trips in measured.items() if len(round_trips) > 2]


def _valid(figures: dict[str, Any] | None) -> bool:
    return figures is not None and "unavailable" not in figures and not figures["text_differs"]


def _axes(panel: Any, label: str) -> None:
    panel.set_xlabel("round trip, ms")
    panel.set_ylabel(label)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)


def _hardware(content: Content) -> str:
    return f"{content['hardware']['cores']} cores of {content['hardware']['processor']}"


def _save(figure: Any, file: Path, title: str) -> None:
    from matplotlib import pyplot

    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
