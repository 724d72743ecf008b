"""`edgespec tls`: a private authority for a fleet, and the certificates of its servers and devices."""

from __future__ import annotations

from pathlib import Path

import click

folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
days = click.option(
    "--days", type=click.IntRange(1, 3650), default=398, show_default=True, help="How long it is valid."
)
hosts = click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="NAME|ADDRESS",
    help="What edges call the server by; may be given several times.",
)


@click.group()
def tls() -> None:
    """Certificates for TLS: an authority of your own, servers, devices. Uses the openssl command."""


@tls.command()
@folder
@hosts
@days
def init(folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Make an authority in FOLDER, and a certificate for a first server.

    Edges get FOLDER/ca.pem (--tls-ca); the server gets server.pem and server.key (--tls-cert, --tls-key). Whoever
    has ca.key can pose as any server: keep it elsewhere.
    """
    from edgespec.server.private_authority import issue_for_server, make_authority

    make_authority(folder)
    issue_for_server(folder, hosts, days)
    click.echo(f"edgespec serve --tls-cert {folder / 'server.pem'} --tls-key {folder / 'server.key'} ...")
    click.echo(f"edgespec generate --tls-ca {folder / 'ca.pem'} ...")


@tls.command()
@folder
@hosts
@days
def server(folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Make a new server.pem and server.key, signed by the authority in FOLDER; SIGHUP makes a server read them."""
    from edgespec.server.private_authority import issue_for_server

    issue_for_server(folder, hosts, days)


@tls.command()
@folder
@click.argument("device")
@days
def device(folder: Path, device: str, days: int) -> None:
    """Make DEVICE.pem and DEVICE.key, by which a server with --tls-client-ca knows the device."""
    from edgespec.server.private_authority import issue_for_device

    issue_for_device(folder, device, days)
