"""`edgespec token`: the tokens by which a server knows its devices."""

from __future__ import annotations

from pathlib import Path

import click

tokens_file = click.option(
    "--tokens",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("edgespec-tokens"),
    show_default=True,
    help="The server's file of digests.",
)


@click.group()
def token() -> None:
    """Tokens of devices: make, list, revoke. A running server takes changes in on SIGHUP."""


@token.command()
@click.argument("device")
@tokens_file
def new(device: str, path: Path) -> None:
    """Make a token for DEVICE and print it, this once.

    The device's newest token before it stays valid beside it; any older one ends. On the device, keep it in a file
    for --token-file, or in the environment variable EDGESPEC_TOKEN.
    """
    from edgespec.server.tokens import add_token

    click.echo(add_token(path, device))
    click.echo(f"noted in {path}; tell a running server with SIGHUP", err=True)


@token.command(name="list")
@tokens_file
def list_tokens(path: Path) -> None:
    """Print a line a token: device, day it was made, the beginning of its digest."""
    from edgespec.server.tokens import read_tokens

    for known in read_tokens(path):
        click.echo(f"{known.device} {known.made} {known.digest.hex()[:12]}")


@token.command()
@click.argument("device")
@tokens_file
def revoke(device: str, path: Path) -> None:
    """Make all tokens of DEVICE void."""
    from edgespec.core.errors import EdgespecError
    from edgespec.server.tokens import revoke

    if not (count := revoke(path, device)):
        raise EdgespecError(f"{path} has no token of {device}: see `edgespec token list --tokens {path}`.")
    click.echo(f"{count} void; tell a running server with SIGHUP", err=True)
