"""Results as Markdown tables. Void and wrong cells say so instead of a figure; who could not take part is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Cell = dict[str, Any]
Content = dict[str, Any]

AUTO, CLOUD = "edgespec auto", "edgespec cloud"
PLAIN, ASSISTED = "transformers plain", "transformers assistant_model"

TARGETS = (
    (0.0, AUTO, ASSISTED, 1.5),
    (0.0, AUTO, PLAIN, 2.0),
    (40.0, AUTO, CLOUD, 1.0),
)
"""Round trip (ms), who, against whom, and how many times as fast it has to be."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured_on(content: Content) -> str:
    """Hardware, versions and what was emulated, in two sentences."""
    hardware = content["hardware"]
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    return f"{hardware['cores']} cores of {hardware['processor']}; {versions}. {content['notes']}"


# Peers


def peers_sections(content: Content) -> list[str]:
    cells = content["cells"]
    parts = []
    for temperature in sorted({cell["temperature"] for cell in cells}):
        own = [cell for cell in cells if cell["temperature"] == temperature]
        first = own[0]
        parts.append(
            f"**T = {temperature:g}**: tokens/s by round trip, median of {first['passes']} passes over "
            f"{first['prompts']} prompts (least to most)."
        )
        parts.append(peers_table(own))
    parts += _absent(cells)
    if checks := targets_rows(cells):
        parts += ["Targets:", table(["ratio", "T", "target", "measured", ""], checks)]
    parts.append("<details><summary>Times of each peer</summary>\n\n" + _times(cells) + "\n\n</details>")
    return parts


def peers_table(cells: Sequence[Cell]) -> str:
    """Peers by round trips, of cells at one temperature."""
    head = ["tokens/s", *[f"RTT {cell['rtt_ms']:g} ms" for cell in cells]]
    names = list(dict.fromkeys(name for cell in cells for name in cell["peers"]))
    rows = [[name, *[_speed(cell["peers"].get(name)) for cell in cells]] for name in names]
    return table(head, rows)


def targets_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """One row for each target and temperature that was measured."""
    rows = []
    for rtt_ms, who, whom, least in TARGETS:
        for cell in cells:
            own, other = (cell["peers"].get(name) for name in (who, whom))
            if cell["rtt_ms"] != rtt_ms or not _counts(own) or not _counts(other):
                continue
            ratio = own["tokens_per_s"] / other["tokens_per_s"]
            name = f"{who} / {whom}, RTT {rtt_ms:g} ms"
            verdict = "met" if ratio >= least else "missed"
            rows.append([name, f"{cell['temperature']:g}", f"≥ {least:g}", f"{ratio:.2f}", verdict])
    return rows


def _counts(figures: Cell | None) -> bool:
    return figures is not None and "unavailable" not in figures and not figures["text_differs"]


def _speed(figures: Cell | None) -> str:
    if figures is None:
        return "–"
    if "unavailable" in figures:
        return "unavailable"
    if figures["text_differs"]:
        return f"**wrong** in {figures['differing_texts']} texts"
    return f"{figures['tokens_per_s']:.0f} ({figures['tokens_per_s_low']:.0f}–{figures['tokens_per_s_high']:.0f})"


def _absent(cells: Sequence[Cell]) -> list[str]:
    reasons = {
        name: figures["unavailable"]
        for cell in cells
        for name, figures in cell["peers"].items()
        if "unavailable" in figures
    }
    return [f"- {name} is unavailable: {reason}" for name, reason in reasons.items()]


def _times(cells: Sequence[Cell]) -> str:
    head = ["peer", "RTT ms", "T", "first token ms", "token ms, median", "p90", "p99"]
    keys = ("ttft_ms_median", "token_ms_median", "token_ms_p90", "token_ms_p99")
    rows = [
        [name, f"{cell['rtt_ms']:g}", f"{cell['temperature']:g}", *[f"{figures[key]:.1f}" for key in keys]]
        for cell in cells
        for name, figures in cell["peers"].items()
        if _counts(figures)
    ]
    return table(head, rows)


# Anything else


def other_sections(content: Content) -> list[str]:
    """Cells of plain values as one table; what a benchmark printed as it stands."""
    cells = content["cells"]
    printed = [f"```\n{cell['output'].rstrip()}\n```" for cell in cells if "output" in cell]
    flat = [
        {key: value for key, value in cell.items() if not isinstance(value, (dict, list))}
        for cell in cells
        if "output" not in cell
    ]
    keys = list(dict.fromkeys(key for cell in flat for key in cell))
    rows = [[_plain(cell.get(key)) for key in keys] for cell in flat]
    return [*([table(keys, rows)] if rows else []), *printed]


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
