"""`edgespec fleet`: many servers under Ray Serve, behind one address that devices ask."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edgespec.cli.child import when_stdin_ends
from edgespec.cli.engine import Model, load_engine
from edgespec.cli.extras import needs
from edgespec.cli.flags import POSITIVE, end_with_stdin, group, option
from edgespec.cli.serve import TargetPace, security_options, settings_options
from edgespec.cli.table import table
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.server.settings import ServerSecurity, ServerSettings

if TYPE_CHECKING:
    from edgespec.fleet.control import FleetSettings

LOOK_S = 1.0
RAY_SETTINGS = {
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
}
"""Unless they are set: logs to files only, and longer than half a minute for Ray to start on a busy machine. A
directory whose process died is back in seconds."""
COLUMNS = ("address", "state", "sessions", "running", "tokens", "tok/s", "pid")


@dataclass(frozen=True)
class Fleet:
    """The replicas, and the directory in front of them."""

    replicas: int = option(
        "Number of servers, with --max-replicas at least.", 2, type=click.IntRange(1, 10_000)
    )
    max_replicas: int | None = option(
        "Start more servers, up to this number, while their load is high.", type=click.IntRange(1, 10_000)
    )
    target_load: float = option(
        "With --max-replicas: the share of sessions, memory and promised latency that servers are scaled to.",
        0.7,
        type=click.FloatRange(0.05, 0.95),
    )
    host: str = option("Address of the directory, which Ray Serve listens on.", "127.0.0.1")
    port: int = option("Port of the directory.", 7400, type=click.IntRange(1, 65535))
    replica_host: str = option("Address that each server listens on, at a free port.", "127.0.0.1")
    tls_name: str | None = option("Name in the servers' certificate, which devices are told.")
    cpus: float = option("CPU cores that Ray keeps for each server.", 1.0, type=POSITIVE)
    gpus: float = option("GPUs that Ray keeps for each server.", 0.0, type=click.FloatRange(0, 64))
    drain_s: float = option("A server that ends waits this long for its texts.", 30.0, type=POSITIVE)

    def settings(self) -> FleetSettings:
        from edgespec.fleet.control import FleetSettings

        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise EdgespecError(
                f"--max-replicas {self.max_replicas} is below --replicas {self.replicas}: give at least that many."
            )
        return FleetSettings(self.replicas, self.host, self.port, self.cpus, self.gpus, self.max_replicas)


@click.group()
def fleet() -> None:
    """Run many servers under Ray Serve, behind one address that devices ask with --directory.

    Needs `pip install 'edgespec[ray]'`. It uses the Ray cluster that RAY_ADDRESS names or that runs on this machine;
    without one, `up` starts one on this machine.
    """


@fleet.command()
@group("options", Fleet)
@group("model", Model)
@group("settings", ServerSettings, **settings_options)
@group("security", ServerSecurity, **security_options)
@group("target_pace", TargetPace)
@end_with_stdin
def up(
    options: Fleet,
    model: Model,
    settings: ServerSettings,
    security: ServerSecurity,
    target_pace: TargetPace,
    end_with_stdin: bool,
) -> None:
    """Start a fleet, or change the one that runs, and stay until it ends.

    Prints one line, `edgespec: fleet listening on HOST:PORT`, when every server is ready: the address for --directory.
    Ctrl-C and `edgespec fleet down` end it; texts are finished first.
    """
    model.check()
    if model.tensor_parallel:
        raise EdgespecError("a fleet's server is one process: leave --tensor-parallel out.")
    security.check(options.replica_host)
    for name, value in RAY_SETTINGS.items():  # Ray reads them when it is imported
        os.environ.setdefault(name, value)
    with needs("ray"):
        from edgespec.fleet import control
        from edgespec.fleet.replica import ReplicaSettings

        load = partial(load_engine, model, target_pace.pace())
        server = replace(settings, security=security, sampling_defaults=model.sampling_defaults())
        control.start(
            options.settings(),
            ReplicaSettings(
                load, server, options.replica_host, options.tls_name, options.drain_s, options.target_load
            ),
        )
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    if end_with_stdin:
        when_stdin_ends(end.set)
    click.echo(f"edgespec: fleet listening on {Address(options.host, options.port)}")
    while not end.wait(LOOK_S):
        if not control.running():
            return
    control.stop()


@fleet.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show the servers of the fleet that runs here."""
    rows = _replicas()
    if as_json:
        click.echo(json.dumps({"replicas": rows}))
    else:
        Console().print(_table(rows, {}, 0.0))


@fleet.command()
@click.option(
    "--every-s", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Between updates."
)
def top(every_s: float) -> None:
    """Show the servers of the fleet, again and again."""
    before: dict[str, int] = {}
    with Live(console=Console(), refresh_per_second=4) as live:
        while True:
            rows = _replicas()
            live.update(_table(rows, before, every_s))
            before = {row["address"]: row["tokens"] for row in rows}
            time.sleep(every_s)


@fleet.command()
def down() -> None:
    """End the fleet that runs here; texts are finished first."""
    with needs("ray"):
        from edgespec.fleet import control

        control.stop()


def _replicas() -> list[dict[str, Any]]:
    with needs("ray"):
        from edgespec.fleet import control

        return control.replicas()


def _table(rows: list[dict[str, Any]], before: dict[str, int], seconds: float) -> Table:
    cells = []
    for row in rows:
        new = row["tokens"] - before.get(row["address"], row["tokens"])
        rate = f"{new / seconds:.1f}" if seconds else "–"
        cells.append([rate if column == "tok/s" else row[column] for column in COLUMNS])
    return table(COLUMNS, cells, title=f"{len(rows)} servers", text=("address", "state"))
