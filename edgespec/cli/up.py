"""`edgespec up`: everything on this machine for a first look: server, link, API and page."""

from __future__ import annotations

import contextlib
import os
import webbrowser

import click

from edgespec.cli.api import Listening, Texts, open_door, run
from edgespec.cli.child import child
from edgespec.cli.extras import needs
from edgespec.cli.flags import POSITIVE, end_with_stdin, group
from edgespec.cli.options import link_shape_options
from edgespec.edge.link_options import LinkOptions
from edgespec.sim.emulated_link import LinkShape

OFFLINE_AFTER_S = 1.0


@click.command()
@group("shape", LinkShape, **link_shape_options)
@click.option("--verify-pace-ms", type=POSITIVE, help="Make each target forward take this long.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@group("listening", Listening)
@end_with_stdin
def up(
    shape: LinkShape,
    verify_pace_ms: float | None,
    no_browser: bool,
    listening: Listening,
    end_with_stdin: bool,
) -> None:
    """Try edgespec: start a server with the bundled models, an emulated link and the API, and open its page.

    --rtt-ms makes the link slow, --verify-pace-ms the target: try 40 and 28. Ctrl-C ends everything.
    """
    with needs("api"):
        texts = Texts()
        access, tracing = listening.access(texts.max_body_kib << 10), listening.tracing()
        with contextlib.ExitStack() as stack:
            threads = max(1, (os.cpu_count() or 2) - 1)
            server = ["serve", "--port", "0", "--threads", str(threads), "--colocated-draft", "none"]
            server += ["--verify-pace-ms", str(verify_pace_ms)] if verify_pace_ms else []
            host, port = stack.enter_context(child(server, "starting a server with the bundled models ..."))
            address = stack.enter_context(child(_link(shape, f"{host}:{port}"), "starting the link ..."))
            door = open_door(None, None, [address], LinkOptions(offline_after_s=OFFLINE_AFTER_S), texts)
            opened = (lambda _: None) if no_browser else webbrowser.open
            run(door, access, listening, end_with_stdin, opened, tracing)


def _link(shape: LinkShape, to: str) -> list[str]:
    command = ["link", "--to", to, "--rtt-ms", str(shape.rtt_ms), "--jitter-ms", str(shape.jitter_ms)]
    return command if shape.mbps is None else [*command, "--mbps", str(shape.mbps)]
