"""Flags that several commands take, checked the same way everywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams

if TYPE_CHECKING:
    from edgespec.edge.link_options import LinkOptions

Function = TypeVar("Function", bound=Callable[..., Any])


class HostPort(click.ParamType[tuple[str, int]]):
    """HOST:PORT or [IPv6]:PORT; port 0 only where a free one may be taken."""

    name = "HOST:PORT"

    def __init__(self, free_port: bool = False) -> None:
        self.lowest = 0 if free_port else 1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not (port.isascii() and port.isdecimal()) or not self.lowest <= int(port) < 65536:
            self.fail(f"{value!r} is not an address: give HOST:PORT, such as 127.0.0.1:7433.", param, ctx)
        return host, int(port)


class Servers(click.ParamType[tuple[tuple[str, int], ...]]):
    """One HOST:PORT, or several with commas between."""

    name = "HOST:PORT[,HOST:PORT...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, int], ...]:
        if isinstance(value, tuple):
            return value
        return tuple(HostPort().convert(one.strip(), param, ctx) for one in str(value).split(","))


class Number(click.ParamType[float]):
    """A finite number from `low` (left out where `above`) up to a million."""

    name = "X"

    def __init__(self, low: float = 0.0, above: bool = False) -> None:
        self.low = low
        self.above = above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        fits = self.low < number <= 1e6 if self.above else self.low <= number <= 1e6
        if not fits:
            bound = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            self.fail(f"{value!r} is not a number {bound} to 1000000.", param, ctx)
        return number


PACE = Number(above=True)
FOLDER = click.Path(path_type=Path)


def apply(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator of several, in the order in which `--help` shall list them."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


sampling = apply(
    click.option(
        "--max-new-tokens", type=int, default=256, show_default=True, help="Tokens to commit at most."
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy."),
    click.option("--top-k", type=int, default=0, help="Keep the k likeliest tokens; 0: all."),
    click.option(
        "--top-p", type=float, default=1.0, help="Keep tokens up to this probability in all; 1: all."
    ),
    click.option(
        "--min-p", type=float, default=0.0, help="Drop tokens less likely than this share of the likeliest."
    ),
    click.option(
        "--repetition-penalty", type=float, default=1.0, help="Of tokens already in the text; 1: none."
    ),
    click.option("--seed", type=int, help="Of the sampling noise; drawn at random if not given."),
    click.option(
        "--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times."
    ),
    click.option("--ignore-eos", is_flag=True, help="Go on after the target's end-of-sequence token."),
)
"""The flags of `SamplingParams`; `sampling_params(**flags)` takes them."""


def sampling_params(flags: dict[str, Any]) -> SamplingParams:
    """Take the sampling flags out of `flags`. Raises EdgespecError on values that mean nothing."""
    names = (
        "max_new_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "seed",
        "stop",
        "ignore_eos",
    )
    return SamplingParams(**{name: flags.pop(name) for name in names})


connection = apply(
    click.option(
        "--server",
        type=Servers(),
        help="A running `edgespec serve`, or several to fail over to; without it, one on the bundled pair.",
    ),
    click.option(
        "--draft",
        type=FOLDER,
        metavar="ENGINE_DIR",
        help="What `edgespec compile` wrote; else the bundled one.",
    ),
    click.option(
        "--mode",
        default="auto",
        show_default=True,
        help="auto, stream, cloud, sync, preempt, accept-all or predicted: the same text; device: the draft's own.",
    ),
    click.option(
        "--draft-tokens", type=int, help="Length of a block, or depth of a tree; else the mode's own."
    ),
    click.option(
        "--objective",
        type=click.Choice(["latency", "cost", "energy"]),
        default="latency",
        show_default=True,
        help="What auto is after: time, target forwards, or drafting on the device.",
    ),
    click.option("--budget", type=float, help="With cost: so many target forwards a token are allowed."),
    click.option(
        "--latency-ms", type=PACE, help="A token shall take no longer: the server promises that, or refuses."
    ),
    click.option("--draft-pace-ms", type=PACE, help="Hold every run of the draft to at least this long."),
    click.option("--timeout-s", type=PACE, default=10.0, show_default=True, help="For a server to answer."),
    click.option(
        "--give-up-s",
        type=PACE,
        default=30.0,
        show_default=True,
        help="End with an error when the link has been lost for so long.",
    ),
    click.option(
        "--offline-after-s",
        type=PACE,
        help="When it has been lost for so long, let the draft write on alone, unverified; else never.",
    ),
)
"""The flags that say with whom and how to speculate."""


FILE = click.Path(path_type=Path, dir_okay=False)

safety = apply(
    click.option(
        "--tls-ca", type=FILE, help="The authority that signed the server's certificate: encrypts the link."
    ),
    click.option("--tls-cert", type=FILE, help="This device's certificate, where the server asks for one."),
    click.option("--tls-key", type=FILE, help="Its key."),
    click.option(
        "--token-file",
        type=FILE,
        help="What `edgespec token new` printed; else the environment's EDGESPEC_TOKEN.",
    ),
    click.option("--insecure", is_flag=True, help="Show the token to a server elsewhere without TLS."),
)
"""The flags by which edge and server know each other. A token is no flag: others could read it in the process list."""


def link_options(flags: dict[str, Any], servers: tuple[tuple[str, int], ...] | None) -> LinkOptions:
    """Take the flags of `safety`, and the times of `connection`, out of `flags`. Raises EdgespecError."""
    from edgespec.edge.link_options import LinkOptions

    token_file = flags.pop("token_file")
    safe = {name: flags.pop(name) for name in ("tls_ca", "tls_cert", "tls_key", "insecure")}
    times = {name: flags.pop(name) for name in ("timeout_s", "give_up_s", "offline_after_s") if name in flags}
    if servers is None:
        if any(safe.values()) or token_file is not None:
            raise EdgespecError(
                "a server is started for this call, on this machine: give --server, or no TLS and token."
            )
        return LinkOptions(**times)
    try:
        token = (
            os.environ.get("EDGESPEC_TOKEN") if token_file is None else token_file.read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"cannot read the token in {token_file} ({error}).") from None
    return LinkOptions(token=token, **safe, **times)


entry = apply(
    click.option("--tls-cert", type=FILE, help="The server's certificate (`edgespec tls init` makes one)."),
    click.option("--tls-key", type=FILE, help="Its key."),
    click.option(
        "--tls-client-ca", type=FILE, help="Edges must show a certificate that this authority signed."
    ),
    click.option(
        "--tokens", type=FILE, help="Edges must show a token of this file (`edgespec token new` fills it)."
    ),
    click.option("--insecure", is_flag=True, help="Serve other machines without TLS or tokens."),
)
"""The flags of `edgespec.server.gate.ServerSecurity`."""


def existing_folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        raise EdgespecError(f"there is no folder {path}: give {what}.")
    return path


end_with_stdin = click.option("--end-with-stdin", is_flag=True, hidden=True)
"""For a process started by another one: end when that one does, however it ends."""
