"""`edgespec link`: an emulated slow link between a device and a server."""

import asyncio
import signal

import click

from edgespec.cli.child import when_stdin_ends
from edgespec.cli.flags import NUMBER, about, end_with_stdin, group
from edgespec.cli.options import link_shape_options
from edgespec.core.access import is_loopback
from edgespec.core.address import Address, parse_address
from edgespec.core.errors import EdgespecError
from edgespec.sim.emulated_link import Link, LinkShape

required_rtt = {**link_shape_options["rtt_ms"], "required": True}


@click.command()
@click.option(
    "--listen",
    type=lambda text: parse_address(text, lowest_port=0),
    metavar="HOST:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Address that the device connects to; port 0 takes a free one.",
)
@click.option("--to", type=parse_address, metavar="HOST:PORT", required=True, help="Address of the server.")
@group(
    "shape",
    LinkShape,
    **{**link_shape_options, "rtt_ms": required_rtt},
    seed={"help": "Seed of the random jitter and losses.", "flag": "--jitter-seed"},
    loss_percent=about("Share of the pieces that are lost once, in percent.", type=NUMBER),
    retransmit_ms=about("Time until a lost piece is sent again.", type=NUMBER),
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen for other machines too. To the server they look like this machine.",
)
@end_with_stdin
def link(
    listen: tuple[str, int], to: tuple[str, int], shape: LinkShape, insecure: bool, end_with_stdin: bool
) -> None:
    """Forward bytes in order and with the delay of a slow link, until interrupted.

    Prints one line, `edgespec: link listening on HOST:PORT`, when it is ready.
    """
    if not insecure and not is_loopback(listen[0]):
        raise EdgespecError(
            f"other machines can reach {listen[0]}, and the server would take them for local ones: "
            "listen on 127.0.0.1, or give --insecure."
        )
    asyncio.run(_run(Link(listen, to, shape), listen[0], end_with_stdin))


async def _run(link: Link, host: str, end_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if end_with_stdin:
        when_stdin_ends(lambda: loop.call_soon_threadsafe(stop.set))
    await link.start()
    try:
        click.echo(f"edgespec: link listening on {Address(host, link.port)}")
        await stop.wait()
    finally:
        await link.close()
