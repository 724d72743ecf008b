"""How commands declare options: a frozen dataclass is a group of options, and a command takes it as one argument.

@dataclass(frozen=True)
class Output:
    json: Path | None = option("Write the results to this file.", type=PATH)

@click.command()
@group("output", Output)
def plan(output: Output) -> None: ...
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


class Number(click.FloatRange):
    """A number from 0 (above 0 if `positive`) to a million."""

    def __init__(self, positive: bool = False) -> None:
        super().__init__(0, 1e6, min_open=positive)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


NUMBER, POSITIVE = Number(), Number(positive=True)


def about(help: str, **settings: Any) -> dict[str, Any]:
    """An option's help text and further settings of click's for it, such as `type`."""
    return {"help": help, **settings}


def option(help: str, default: Any = None, **settings: Any) -> Any:
    """A dataclass field that is an option: field `rtt_ms` is `--rtt-ms`. settings: click's, such as `type`.

    Without a `type`, the option takes what the field's annotation names first.
    """
    return dataclasses.field(default=default, metadata=about(help, **settings))


def group(
    name: str, kind: type, only: Collection[str] = (), **options: dict[str, Any]
) -> Callable[[Function], Function]:
    """Give a command the options of the dataclass `kind`; it gets them as one argument `name` of that type.

    options: for a dataclass from elsewhere, `about(...)` each field that becomes an option; otherwise the fields made
    by `option` are. only: the fields to offer; all if empty.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    declared = options or {
        name: dict(field.metadata) for name, field in fields.items() if "help" in field.metadata
    }

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def grouped(**flags: Any) -> Any:
            values = {field: flags.pop(field) for field in declared if field in flags}
            return function(**flags, **{name: kind(**values)})

        command: Any = grouped
        for field, settings in reversed(declared.items()):
            if field in only or not only:
                command = _click_option(kind, fields[field], dict(settings))(command)
        return command  # type: ignore[no-any-return]

    return decorate


def _click_option(
    kind: type, field: dataclasses.Field[Any], settings: dict[str, Any]
) -> Callable[[Any], Any]:
    if "type" not in settings:
        hint = typing.get_type_hints(kind)[field.name]  # int | None -> int; tuple[str, ...] -> str
        plain = (typing.get_args(hint) or (hint,))[0]
        settings["type"] = PATH if plain is Path else plain
    flag = settings.pop("flag", f"--{field.name.replace('_', '-')}")
    if settings.get("required"):  # with a default, even None, click would not miss it
        return click.option(flag, field.name, **settings)
    default = settings.pop("default", field.default)
    settings.setdefault("show_default", default is not None and default is not False and default != ())
    return click.option(flag, field.name, default=default, is_flag=default is False, **settings)


end_with_stdin = click.option("--end-with-stdin", is_flag=True, hidden=True)
"""For a process started by another one: end when that one does, however it ends."""
