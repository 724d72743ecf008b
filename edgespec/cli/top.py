"""`edgespec top`: a live table of a server's sessions, from its metrics port."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgespec.cli.table import table as table_of
from edgespec.core.address import Address, parse_address
from edgespec.core.errors import EdgespecError

TEXTS = ("id", "device", "state")
NUMBERS = ("age", "tokens", "tok/s", "first", "RTT", "accept", "fill", "hints", "KV", "prefix")


@click.command()
@click.option(
    "--server",
    type=lambda text: parse_address(text, default_port=9433),
    metavar="HOST:PORT",
    default="127.0.0.1:9433",
    show_default=True,
    help="Address of the server's --metrics-port.",
)
@click.option(
    "--every-s", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Time between updates."
)
@click.option("--once", is_flag=True, help="Print one table and end.")
def top(server: Address, every_s: float, once: bool) -> None:
    """Show a server's sessions.

    Columns: tokens generated, their rate, time to the first token, round-trip time, share of drafted tokens that were
    accepted, tokens generated without a draft, hints sent, memory for keys and values, and prompt tokens shared with
    another session.
    """
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
    """The server's /sessions. Raises EdgespecError."""
    host, port = server
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/sessions", timeout=10) as answer:
            rows: list[dict[str, Any]] = json.load(answer)
            return rows
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise EdgespecError(
            f"there are no metrics at {host}:{port} ({getattr(error, 'reason', error)}): "
            "start the server with `edgespec serve --metrics-port PORT`, and give that port."
        ) from None


def table(rows: list[dict[str, Any]], before: dict[int, dict[str, Any]]) -> Table:
    """Running sessions first. Rates are since `before`, by session id; if it is not there, since the session began."""
    shown = sorted(rows, key=lambda row: (row["state"] != "open", -row["tokens"]))
    cells = [_cells(row, before.get(row["session"], {"tokens": 0, "seconds": 0.0})) for row in shown]
    return table_of((*TEXTS, *NUMBERS), cells, title=f"{len(rows)} sessions", text=TEXTS)


def _cells(row: dict[str, Any], past: dict[str, Any]) -> tuple[object, ...]:
    seconds = row["seconds"] - past["seconds"]
    rate = (row["tokens"] - past["tokens"]) / seconds if seconds > 0 else 0.0
    return (
        row["session"],
        str(row["device"])[:12],
        row["state"],
        f"{row['seconds']:.0f} s",
        row["tokens"],
        f"{rate:.1f}",
        "-" if row["first_token_ms"] is None else f"{row['first_token_ms']:.0f} ms",
        "-" if row["rtt_ms"] is None else f"{row['rtt_ms']:.1f} ms",
        f"{row['accepted'] / row['drafted']:.0%}" if row["drafted"] else "-",
        row["filled"],
        row["hints"],
        f"{row['kv_bytes'] / 2**20:.1f} MiB",
        row["prefix_tokens"],
    )
