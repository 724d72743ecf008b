"""`edgespec tls`: a private certificate authority, and certificates for servers and devices."""

from pathlib import Path

import click

from edgespec.server.private_authority import issue_for_device, issue_for_server, make_authority

folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
days = click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=398,
    show_default=True,
    help="How long the certificate is valid.",
)
hosts = click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="NAME|ADDRESS",
    help="A name or address by which devices reach the server. May be given several times.",
)


@click.group()
def tls() -> None:
    """Create certificates for TLS: an authority of your own, servers, devices. Uses openssl 3.0 or newer."""


@tls.command()
@folder
@hosts
@days
def init(folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Create an authority in FOLDER, and a certificate for a first server.

    Devices get ca.pem (--tls-ca); the server gets server.pem and server.key (--tls-cert, --tls-key). Keep ca.key
    elsewhere: whoever has it can impersonate any server.
    """
    make_authority(folder)
    issue_for_server(folder, hosts, days)
    click.echo(f"edgespec serve --tls-cert {folder / 'server.pem'} --tls-key {folder / 'server.key'} ...")
    click.echo(f"edgespec generate --tls-ca {folder / 'ca.pem'} ...")


@tls.command()
@folder
@hosts
@days
def server(folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Create a new server.pem and server.key, signed by the authority in FOLDER.

    SIGHUP makes a running server reload them.
    """
    issue_for_server(folder, hosts, days)


@tls.command()
@folder
@click.argument("device")
@days
def device(folder: Path, device: str, days: int) -> None:
    """Create DEVICE.pem and DEVICE.key, for servers with --tls-client-ca."""
    issue_for_device(folder, device, days)
