"""One look for the tables that commands print."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str,
    caption: str | None = None,
    text: Sequence[str] = ("mode",),
) -> Table:
    """text: the columns that are left-aligned; all others hold numbers. An empty row draws a line."""
    shown = Table(title=title, caption=caption)
    for column in columns:
        shown.add_column(column, justify="left" if column in text else "right")
    for row in rows:
        if row:
            shown.add_row(*map(str, row))
        else:
            shown.add_section()
    return shown
