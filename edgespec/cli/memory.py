"""`edgespec memory`: what the device remembers, how to forget it, and a key to encrypt it with."""

from __future__ import annotations

from pathlib import Path

import click

from edgespec.cli.flags import PATH
from edgespec.edge.memory_folder import clear_folder, default_folder, folder_contents
from edgespec.edge.memory_key import make_key

folder_option = click.option(
    "--memory",
    "folder",
    type=PATH,
    metavar="DIR",
    show_default="edgespec/memory in the user's folder for state",
    help="Folder of the memory.",
)


@click.group()
def memory() -> None:
    """Show or clear what this device remembers of earlier texts.

    The memory makes repeated work faster. It never leaves the device; --no-memory turns it off.
    """


@memory.command()
@folder_option
def status(folder: Path | None) -> None:
    """Show how much is remembered, and where."""
    folder = folder or default_folder()
    contents = folder_contents(folder)
    click.echo(f"memory in {folder}")
    if not contents.targets and not contents.links:
        click.echo("nothing is remembered")
    for one in contents.targets:
        size = f"{one.bytes:,} bytes"
        click.echo(f"{one.file.name}  {one.texts} texts, {one.tokens} tokens, {size}")
    if contents.links:
        click.echo(f"measurements of {contents.links} links")


@memory.command()
@folder_option
def clear(folder: Path | None) -> None:
    """Forget everything: delete the memory's files."""
    folder = folder or default_folder()
    click.echo(f"deleted {clear_folder(folder)} files in {folder}")


@memory.command()
@click.argument("file", type=PATH)
def key(file: Path) -> None:
    """Make a key in FILE, with which --memory-key encrypts the memory."""
    make_key(file)
    click.echo(f"made a key in {file}: without it the memory cannot be read")
