"""`edgespec token`: the tokens by which a server recognises its devices."""

from pathlib import Path

import click

from edgespec.cli.flags import PATH
from edgespec.core.errors import EdgespecError
from edgespec.server import tokens

RELOAD = "send SIGHUP to a running server to apply this"

tokens_file = click.option(
    "--tokens",
    "path",
    type=PATH,
    default=Path("edgespec-tokens"),
    show_default=True,
    help="The server's token file. It holds digests only, not the tokens.",
)


@click.group()
def token() -> None:
    """Create, list and revoke the tokens of devices. SIGHUP makes a running server reload them."""


@token.command()
@click.argument("device")
@tokens_file
def new(device: str, path: Path) -> None:
    """Create a token for DEVICE and print it. It cannot be printed again.

    The device's previous token stays valid; older ones are revoked. On the device, store the token in a file for
    --token-file, or in the environment variable EDGESPEC_TOKEN.
    """
    click.echo(tokens.add_token(path, device))
    click.echo(f"written to {path}; {RELOAD}", err=True)


@token.command(name="list")
@tokens_file
def list_tokens(path: Path) -> None:
    """Print one line per token: device, date, start of the digest."""
    for known in tokens.read_tokens(path):
        click.echo(f"{known.device} {known.made} {known.digest.hex()[:12]}")


@token.command()
@click.argument("device")
@tokens_file
def revoke(device: str, path: Path) -> None:
    """Revoke all tokens of DEVICE."""
    if not (count := tokens.revoke(path, device)):
        raise EdgespecError(f"{path} has no token of {device}: see `edgespec token list --tokens {path}`.")
    click.echo(f"{count} revoked; {RELOAD}", err=True)
