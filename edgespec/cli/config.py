"""`edgespec serve --config FILE`: a TOML file whose keys are the option names. The command line overrides it.

target = "org/name"
port = 7433
kv-memory = "40%"
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from edgespec.cli.extras import needs
from edgespec.core.errors import EdgespecError


def read_config(path: Path, command: click.Command) -> dict[str, Any]:
    """The file's values by parameter name of `command`. Raises EdgespecError."""
    with needs("server"):
        tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgespecError(f"cannot read the configuration file {path} ({error.strerror}).") from None
    except ValueError as error:
        raise EdgespecError(f"{path} is not TOML ({error}).") from None
    by_flag = {
        flag.lstrip("-"): parameter.name
        for parameter in command.params
        for flag in parameter.opts
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name != "config"
    }
    defaults: dict[str, Any] = {}
    for key, value in entries.items():
        name = by_flag.get(key.replace("_", "-"))
        if name is None:
            known = ", ".join(sorted(by_flag))
            raise EdgespecError(f"{path} has the unknown key {key!r}: the known keys are {known}.")
        if isinstance(value, dict):
            raise EdgespecError(
                f"{path} has the table [{key}]: write `{key} = VALUE`, with a value that --{key} takes."
            )
        defaults[name] = value if isinstance(value, bool) else str(value)
    return defaults


def _apply(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.default_map = {**read_config(path, context.command), **(context.default_map or {})}


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_apply,
    help="Read options from this TOML file. Its keys are the option names without dashes in front.",
)
