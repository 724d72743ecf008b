"""The latency benchmark as Markdown: every mode against `cloud`, the targets, and the README's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.tables import Cell, Content, table
from edgespec.drafting.modes import DEVICE

PUBLISHED = ("sync", "preempt", "accept-all", "predicted")
"""Other schemes, as modes over the same machine."""

SUMMARY_TEMPERATURE = 0.8

NAMES = {
    "paper-jetson": "the paper's Jetson",
    "paper-rtx": "the paper's RTX",
    "go2": "the paper's Go2",
    "wrong-draft": "a draft that is never right",
    "wrong-exits": "exits that are never right",
    "hosted-draft": "the server hosts a draft too",
}


def latency_summary(content: Content) -> str:
    """How many times as fast as `cloud` each mode is, at one temperature: what the README shows."""
    cells = [one for one in content["cells"] if one["temperature"] == SUMMARY_TEMPERATURE]
    modes = [mode for mode in (*PUBLISHED, "colocated", "auto") if any(mode in one["modes"] for one in cells)]
    rows = [
        [_named(cell), *[_emphatic(mode, _ratio(cell["modes"].get(mode))) for mode in modes]]
        for cell in cells
    ]
    return table(["target, draft, round trip", *[f"`{mode}`" for mode in modes]], rows)


def _named(cell: Cell) -> str:
    pace = "full speed" if cell["forward_ms"] is None else f"{cell['forward_ms']:.3g}, {cell['draft_ms']:.2g}"
    text = f"{pace}, {cell['rtt_ms']:g} ms"
    text += f", jitter ± {cell['jitter_ms']:g} ms" if cell["jitter_ms"] else ""
    text += f", {cell['mbps']:g} Mbit/s" if cell["mbps"] else ""
    if cell["setting"] == "acceptance":
        return f"{text}, {cell['wrong_draft']:.0%} of the draft's choices spoiled"
    name = NAMES.get(cell["setting"])
    if name is None:
        return text
    return f"{name}: {text}" if name.startswith("the paper") else f"{text}, {name}"


def _emphatic(mode: str, text: str) -> str:
    return f"**{text}**" if mode == "auto" and text != "–" else text


# Targets

Check = tuple[str, float, float, bool]
"""What is compared, its target, what was measured, and whether more is better."""


def target_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """One row for each target of each cell that was measured."""
    return [
        [
            cell["setting"] + f", {cell['rtt_ms']:g} ms",
            f"{cell['temperature']:g}",
            what,
            f"{'≥' if more else '≤'} {target:g}",
            f"{measured:.0f}" if target > 10 else f"{measured:.2f}",
            "met" if (measured >= target if more else measured <= target) else "missed",
        ]
        for cell in cells
        for what, target, measured, more in _checks(cell)
    ]


def _checks(cell: Cell) -> Iterator[Check]:
    setting, rtt_ms = cell["setting"], cell["rtt_ms"]
    if setting == "paper-jetson":
        yield from _faster(cell, cloud=1.8, sync=1.4, preempt=1.2)
    elif setting == "a100-orin":
        yield from _faster(cell, cloud=1.3 if rtt_ms <= 20 else 1.0)
        if rtt_ms == 40:
            yield from _faster(cell, sync=1.7, preempt=1.5)
            yield "bytes a token, auto", 150, cell["modes"]["auto"]["bytes_per_token"], False
        others = [mode for mode in PUBLISHED if _counts(cell, mode)]
        if others and _counts(cell, "auto"):
            best = max(others, key=lambda mode: _speed(cell, mode))
            ratio = _speed(cell, "auto") / _speed(cell, best)
            yield f"auto / {best}, the fastest of the published", 1.0, ratio, True
    elif setting == "rough-link":
        yield from _faster(cell, cloud=1.0)
    elif setting == "wrong-draft":
        yield from _faster(cell, cloud=0.97)
    elif setting == "wrong-exits":
        yield from _faster(cell, **{"auto-no-hints": 0.97})


def _faster(cell: Cell, **targets: float) -> Iterator[Check]:
    for mode, target in targets.items():
        if _counts(cell, mode) and _counts(cell, "auto"):
            yield f"auto / {mode}", target, _speed(cell, "auto") / _speed(cell, mode), True


def _counts(cell: Cell, mode: str) -> bool:
    figures = cell["modes"].get(mode)
    return figures is not None and not figures["void"] and not figures["text_differs"]


def _speed(cell: Cell, mode: str) -> float:
    return float(cell["modes"][mode]["speed_vs_cloud"])


# Everything


def latency_sections(content: Content) -> list[str]:
    cells = content["cells"]
    modes = list(dict.fromkeys(mode for cell in cells for mode in cell["modes"]))
    others = [mode for mode in modes if mode != "cloud"]
    rows = [[*_where(cell), *[_ratio(cell["modes"].get(mode)) for mode in others]] for cell in cells]
    head = [
        "setting",
        "RTT ms",
        "T",
        "draft / forward ms",
        "cloud, tokens/s",
        *[f"{mode} ×" for mode in others],
    ]
    sections = ["How many times as fast as `cloud` (streamed cloud decoding):", table(head, rows)]
    if DEVICE in modes:
        sections.append("`device` is the draft alone: its text is another, and no server is asked.")
    if checks := target_rows(cells):
        sections += ["Targets:", table(["setting", "T", "", "target", "measured", ""], checks)]
    sections.append(
        "<details><summary>Times of each mode</summary>\n\n" + _mode_times(cells) + "\n\n</details>"
    )
    return sections


def _where(cell: Cell) -> list[str]:
    pace = (
        "full speed" if cell["forward_ms"] is None else f"{cell['draft_ms']:.4g} / {cell['forward_ms']:.4g}"
    )
    shape = f", ± {cell['jitter_ms']:g} ms" if cell["jitter_ms"] else ""
    shape += f", {cell['mbps']:g} Mbit/s" if cell["mbps"] else ""
    cloud = cell["modes"]["cloud"]
    speed = "void" if cloud["void"] else f"{cloud['tokens_per_s'] * cell['scale']:.1f}"
    return [cell["setting"] + shape, f"{cell['rtt_ms']:g}", f"{cell['temperature']:g}", pace, speed]


def _ratio(figures: Cell | None) -> str:
    if figures is None:
        return "–"
    if figures["text_differs"]:
        return "**wrong**"
    return f"{figures['speed_vs_cloud']:.2f}" + (" (void)" if figures["void"] else "")


def _mode_times(cells: Sequence[Cell]) -> str:
    head = [
        "setting",
        "RTT ms",
        "T",
        "mode",
        "first token ms",
        "token ms, median",
        "p90",
        "p99",
        "bytes a token",
    ]
    keys = ("ttft_ms_median", "token_ms_median", "token_ms_p90", "token_ms_p99")
    return table(
        head,
        [
            [
                cell["setting"],
                f"{cell['rtt_ms']:g}",
                f"{cell['temperature']:g}",
                mode,
                *[f"{figures[key] / cell['scale']:.1f}" for key in keys],
                f"{figures['bytes_per_token']:.0f}",
            ]
            for cell in cells
            for mode, figures in cell["modes"].items()
        ],
    )
