"""The demo's live table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

COLUMNS = (
    "mode",
    "tokens/s",
    "× cloud",
    "tokens a round",
    "acceptance",
    "hint hits",
    "forwards a token",
    "bytes a token",
)


def table(figures: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """One row a mode; a mode without runs yet shows dots."""
    shown = Table(title="the same text, by mode", caption=caption)
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column == "mode" else "right")
    for mode, one in figures.items():
        shown.add_row(mode, *(_cells(one) if one else ["…"] * (len(COLUMNS) - 1)))
    return shown


def _cells(one: Mapping[str, Any]) -> list[str]:
    hits = f"{one['hints_hit']} of {one['hints_sent']}" if one["hints_sent"] else "–"
    speed = f"{one['speed_vs_cloud']:.2f}" if one["speed_vs_cloud"] else "…"
    return [
        f"{one['tokens_per_s']:.2f}",
        f"{speed} (void)" if one["void"] else speed,
        f"{one['tokens_per_round']:.2f}",
        f"{one['acceptance']:.2f}" if one["acceptance"] is not None else "–",
        hits,
        f"{one['forwards_per_token']:.2f}",
        f"{one['bytes_per_token']:.0f}",
    ]
