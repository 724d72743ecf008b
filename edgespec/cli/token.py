"""`edgespec token`: the tokens by which a server recognises its devices."""

from pathlib import Path

import click

from edgespec.cli.flags import PATH, POSITIVE
from edgespec.core.errors import EdgespecError
from edgespec.server import tokens

APPLIED = "a running server applies this within a second"

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
    """Create, list and revoke the tokens of devices. A running server follows the file within a second."""


@token.command()
@click.argument("device")
@tokens_file
@click.option(
    "--tenant", help="Whose device this is. The devices of a tenant share what one tenant may have."
)
@click.option(
    "--latency-ms",
    type=POSITIVE,
    help="The lowest latency target that this device may ask for, whoever else is served.",
)
def new(device: str, path: Path, tenant: str | None, latency_ms: float | None) -> None:
    """Create a token for DEVICE and print it. It cannot be printed again.

    The device's previous token stays valid; older ones are revoked. On the device, store the token in a file for
    --token-file, or in the environment variable EDGESPEC_TOKEN.
    """
    click.echo(tokens.add_token(path, device, tenant, latency_ms))
    click.echo(f"written to {path}; {APPLIED}", err=True)


@token.command(name="list")
@tokens_file
def list_tokens(path: Path) -> None:
    """Print one line per token: device, date, start of the digest, and what `new` was told of it."""
    for known in tokens.read_tokens(path):
        labels = [f"tenant={known.tenant}"] if known.tenant else []
        labels += [] if known.latency_ms is None else [f"latency_ms={known.latency_ms:g}"]
        click.echo(" ".join([known.device, known.made, known.digest.hex()[:12], *labels]))


@token.command()
@click.argument("device")
@tokens_file
def revoke(device: str, path: Path) -> None:
    """Revoke all tokens of DEVICE."""
    if not (count := tokens.revoke(path, device)):
        raise EdgespecError(f"{path} has no token of {device}: see `edgespec token list --tokens {path}`.")
    click.echo(f"{count} revoked; {APPLIED}", err=True)
