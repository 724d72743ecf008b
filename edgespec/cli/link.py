"""`edgespec link`: an emulated link, to stand between an edge and a server."""

from __future__ import annotations

import click

from edgespec.cli.options import HostPort, Number, end_with_stdin
from edgespec.core.errors import EdgespecError


@click.command()
@click.option(
    "--listen",
    type=HostPort(free_port=True),
    default="127.0.0.1:0",
    show_default=True,
    help="Where the edge connects; port 0: a free one.",
)
@click.option("--to", type=HostPort(), required=True, help="The server.")
@click.option("--rtt-ms", type=Number(), required=True, help="Round trip, half of it each way.")
@click.option("--jitter-ms", type=Number(), default=0.0, help="The round trip varies by up to this much.")
@click.option("--mbps", type=Number(above=True), help="Megabits a second each way; unlimited if not given.")
@click.option("--jitter-seed", type=int, default=0, help="The jitter is drawn from this.")
@click.option(
    "--insecure", is_flag=True, help="Listen for other machines too; the server takes them for this one."
)
@end_with_stdin
def link(
    listen: tuple[str, int],
    to: tuple[str, int],
    rtt_ms: float,
    jitter_ms: float,
    mbps: float | None,
    jitter_seed: int,
    insecure: bool,
    end_with_stdin: bool,
) -> None:
    """Pass bytes on in order, as late as a slow link would, until interrupted.

    Prints `edgespec: link listening on HOST:PORT` when it is ready.
    """
    from edgespec.core.access import is_loopback
    from edgespec.sim.emulated_link import LinkShape, run_link

    if not insecure and not is_loopback(listen[0]):
        raise EdgespecError(
            f"{listen[0]} can be reached from other machines, and who comes through the link looks local to the "
            "server: listen on 127.0.0.1, or give --insecure."
        )
    run_link(listen, to, LinkShape(rtt_ms, jitter_ms, mbps, jitter_seed), end_with_stdin=end_with_stdin)
