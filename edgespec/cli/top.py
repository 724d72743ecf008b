"""`edgespec top`: a server's sessions, live, from its metrics port."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgespec.cli.options import HostPort
from edgespec.core.errors import EdgespecError

TEXTS = ("id", "device", "state")
NUMBERS = ("age", "tokens", "tok/s", "first", "RTT", "accept", "fill", "hints", "KV", "prefix")


@click.command()
@click.option(
    "--server", type=HostPort(), default="127.0.0.1:9433", show_default=True, help="Its --metrics-port."
)
@click.option("--every-s", type=click.FloatRange(0.1, 60), default=1.0, show_default=True)
@click.option("--once", is_flag=True, help="Print one table and end.")
def top(server: tuple[str, int], every_s: float, once: bool) -> None:
    """Show a server's sessions: rate, round trip, acceptance, hints, KV memory, shared prefixes."""
    console = Console()
    before: dict[int, dict[str, Any]] = {}
    if once:
        console.print(table(fetch(server), before))
        return
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            rows = fetch(server)
            live.update(table(rows, before))
            before = {row["session"]: row for row in rows}
            time.sleep(every_s)


def fetch(server: tuple[str, int]) -> list[dict[str, Any]]:
    """The sessions, as /sessions has them. Raises EdgespecError."""
    host, port = server
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/sessions", timeout=10) as answer:
            rows: list[dict[str, Any]] = json.load(answer)
            return rows
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise EdgespecError(
            f"no server's metrics at {host}:{port} ({getattr(error, 'reason', error)}): "
            "start it with `edgespec serve --metrics-port`, and give that port."
        ) from None


def table(rows: list[dict[str, Any]], before: dict[int, dict[str, Any]]) -> Table:
    """Busy sessions first. Rates are since `before`, by session; over the whole life where that knows
    nothing."""
    shown = Table(title=f"{len(rows)} sessions")
    for column in TEXTS:
        shown.add_column(column)
    for column in NUMBERS:
        shown.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: (row["state"] != "open", -row["tokens"])):
        past = before.get(row["session"], {"tokens": 0, "seconds": 0.0})
        seconds = row["seconds"] - past["seconds"]
        rate = (row["tokens"] - past["tokens"]) / seconds if seconds > 0 else 0.0
        acceptance = f"{row['accepted'] / row['drafted']:.0%}" if row["drafted"] else "-"
        first = "-" if row["first_token_ms"] is None else f"{row['first_token_ms']:.0f} ms"
        rtt = "-" if row["rtt_ms"] is None else f"{row['rtt_ms']:.1f} ms"
        shown.add_row(
            str(row["session"]),
            str(row["device"])[:12],
            row["state"],
            f"{row['seconds']:.0f} s",
            str(row["tokens"]),
            f"{rate:.1f}",
            first,
            rtt,
            acceptance,
            str(row["filled"]),
            str(row["hints"]),
            f"{row['kv_bytes'] / 2**20:.1f} MiB",
            str(row["prefix_tokens"]),
        )
    return shown
