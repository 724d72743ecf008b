"""`edgespec api`: an OpenAI-compatible HTTP API on the device, and a page to try it. No torch."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.child import spinner, when_stdin_ends
from edgespec.cli.extras import needs
from edgespec.cli.flags import PATH, end_with_stdin, group, option
from edgespec.cli.options import Connection, Remembering, connection, remembering
from edgespec.cli.streaming import reachable_server
from edgespec.core.address import Address, parse_addresses
from edgespec.core.errors import EdgespecError
from edgespec.core.garbage import leave_loaded_out
from edgespec.core.generation_config import sampling_defaults
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.tokenizer import TargetTexts, ask_target
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

if TYPE_CHECKING:
    from edgespec.api.access import Access
    from edgespec.api.door import Door, Limits
    from edgespec.api.tracing import Tracing

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class Listening:
    """Where the API listens, and who may use it."""

    host: str = option("Address to listen on.", "127.0.0.1")
    port: int = option("Port to listen on; 0 takes a free one.", DEFAULT_PORT, type=click.IntRange(0, 65535))
    api_key_file: Path | None = option(
        "File with the API keys that are accepted, one per line.",
        show_default="the variable EDGESPEC_API_KEY",
    )
    https_cert: Path | None = option("Serve HTTPS with this certificate (PEM file).")
    https_key: Path | None = option("The private key of --https-cert.")
    where_url: str | None = option("For the API beside a server: where its /where is.", hidden=True)
    cors_origin: tuple[str, ...] = option(
        "Web pages of this origin may use the API. May be given several times.",
        (),
        multiple=True,
        metavar="URL",
    )

    otlp_traces_endpoint: str | None = option(
        "Send a span for each request and text to this OpenTelemetry collector, such as "
        "http://127.0.0.1:4318/v1/traces.",
        show_default="no spans",
        metavar="URL",
    )

    def tracing(self) -> Tracing | None:
        """None: no spans are wanted. Raises EdgespecError."""
        if self.otlp_traces_endpoint is None:
            return None
        if not self.otlp_traces_endpoint.startswith(("http://", "https://")):
            raise EdgespecError(
                f"--otlp-traces-endpoint must be a URL of http or https, not {self.otlp_traces_endpoint!r}."
            )
        with needs("otel"):
            from edgespec.api.tracing import Tracing

            return Tracing.to(self.otlp_traces_endpoint)

    def check_https(self) -> None:
        """Raises EdgespecError where the files are missing or do not fit."""
        if bool(self.https_cert) != bool(self.https_key):
            raise EdgespecError(
                "HTTPS needs a certificate and its key: give both --https-cert and --https-key."
            )
        if self.https_cert is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.https_cert, self.https_key)
            except OSError as error:
                raise EdgespecError(
                    f"cannot use {self.https_cert} with {self.https_key} ({error})."
                ) from None

    def access(self, body_bytes: int) -> Access:
        """Raises EdgespecError where strangers could use it."""
        from edgespec.api.access import Access

        access = Access(self._keys(), self.cors_origin, body_bytes)
        access.check(self.host)
        return access

    def _keys(self) -> list[str]:
        if self.api_key_file is None:
            return [key for key in (os.environ.get("EDGESPEC_API_KEY", "").strip(),) if key]
        try:
            lines = self.api_key_file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise EdgespecError(f"cannot read the API keys in {self.api_key_file} ({error}).") from None
        if not lines:
            raise EdgespecError(f"{self.api_key_file} holds no API key: write one per line.")
        return lines


@dataclass(frozen=True)
class Texts:
    """What is offered, and how much of it at once."""

    model_name: str = option("Name of the model in the API.", "edgespec")
    streams: int = option("Texts generated at once, at most.", 16, type=click.IntRange(1, 1024))
    waiting: int = option("Requests that may wait for their turn.", 64, type=click.IntRange(0, 100_000))
    kept_sessions: int = option(
        "Finished texts whose session is kept for a next turn.", 8, type=click.IntRange(0, 1024)
    )
    default_max_tokens: int = option(
        "Length of an answer whose request names none.", 1024, type=click.IntRange(1)
    )
    max_body_kib: int = option("Largest request.", 4096, type=click.IntRange(1, 1 << 20))

    def limits(self) -> Limits:
        from edgespec.api.door import Limits

        return Limits(
            streams=self.streams,
            waiting=self.waiting,
            kept_sessions=self.kept_sessions,
            default_tokens=self.default_max_tokens,
        )


@click.command()
@click.option(
    "--draft",
    show_default="the bundled draft",
    help="Folder from `edgespec compile`; none: the server decodes alone.",
)
@click.option(
    "--tokenizer",
    type=PATH,
    show_default="the server's",
    help="The target's folder or tokenizer.json.",
)
@click.option(
    "--generation-config",
    default="auto",
    show_default=True,
    help="Folder whose generation_config.json says how requests sample that say nothing. auto: as the server says; "
    "none: at temperature 1.",
)
@connection
@remembering
@group("listening", Listening)
@group("texts", Texts)
@end_with_stdin
def api(
    draft: str | None,
    tokenizer: Path | None,
    generation_config: str,
    connection: Connection,
    remembering: Remembering,
    listening: Listening,
    texts: Texts,
    end_with_stdin: bool,
) -> None:
    """Serve an OpenAI-compatible API on this device until interrupted.

    Text comes from the target on --server; the draft runs here. Without --server, this command starts a local server
    with the bundled models. On an address that other machines can reach, an API key is required.

    Prints one line, `edgespec: API listening on HOST:PORT`, when it is ready.
    """
    with needs("api"):
        access, tracing = listening.access(texts.max_body_kib << 10), listening.tracing()
        link = connection.link_options()
        directory = connection.asked_directory()
        with reachable_server(connection) as servers:
            door = open_door(
                draft, tokenizer, servers, link, texts, directory, generation_config, remembering.options()
            )
            run(door, access, listening, end_with_stdin, tracing=tracing)


NOT_REMEMBERING: Mapping[str, Any] = MappingProxyType({})


def open_door(
    draft: str | None,
    tokenizer: Path | None,
    servers: Sequence[tuple[str, int]],
    link: LinkOptions,
    texts: Texts,
    directory: Directory | None = None,
    generation_config: str = "auto",
    remembering: Mapping[str, Any] = NOT_REMEMBERING,
) -> Door:
    """directory: names the servers, where they are not given. remembering: options of `Session`. Raises
    EdgespecError."""
    from edgespec.api.door import Door
    from edgespec.api.session_store import Source

    if draft == "none" and link.offline_after_s is not None:
        raise EdgespecError("going on offline needs a draft: leave --offline-after-s out.")
    with spinner("loading the draft ..."):
        engine = None if draft == "none" else load_draft(draft or bundled_engine())
    path = tokenizer or (None if engine is None else engine.tokenizer_path)
    own = None if path is None else Tokenizer.load(path)
    if own is not None and tokenizer is not None:
        target = TargetTexts(own, {})
    else:
        target = _target_texts(servers, link, own, directory)
    sampling = target.sampling
    if generation_config != "auto":
        sampling = {} if generation_config == "none" else sampling_defaults(Path(generation_config))
    source = Source(servers, engine, target.tokenizer, link, directory, sampling, remembering)
    return Door(source, texts.model_name, texts.limits())


def _target_texts(
    servers: Sequence[tuple[str, int]], link: LinkOptions, own: Tokenizer | None, directory: Directory | None
) -> TargetTexts:
    """What the server says, or, where it is out of reach, what is at hand. Raises EdgespecError."""
    try:
        return ask_target(directory or parse_addresses(servers), link, own)
    except EdgespecError as error:
        if own is None:
            raise
        click.echo(f"edgespec: {error} The draft's tokenizer is used.", err=True)
        return TargetTexts(own, {})


def run(
    door: Door,
    access: Access,
    listening: Listening,
    end_with_stdin: bool,
    then: Callable[[str], object] = lambda _: None,
    tracing: Tracing | None = None,
) -> None:
    """Serve until a signal, or the end of standard input, ends it. then: called with the API's URL once it listens."""
    from edgespec.api.app import create_app
    from edgespec.api.connections import listen
    from edgespec.api.http_server import http_server

    host = listening.host
    listening.check_https()
    bound = listen(host, listening.port, door.limits.sessions)
    server = http_server(
        create_app(door, access, listening.where_url, tracing), listening.https_cert, listening.https_key
    )
    if end_with_stdin:
        when_stdin_ends(lambda: setattr(server, "should_exit", True))
    shown = Address(host, bound.getsockname()[1])
    click.echo(f"edgespec: API listening on {shown}")
    leave_loaded_out()
    then(f"{'https' if listening.https_cert else 'http'}://{shown}")
    server.run(sockets=[bound])
