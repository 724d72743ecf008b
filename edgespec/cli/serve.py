"""`edgespec serve`: serve a target model. Apart from `train`, the only command that needs torch to run."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgespec.cli.child import when_stdin_ends
from edgespec.cli.config import config_option
from edgespec.cli.engine import Model, load_target
from edgespec.cli.extras import needs
from edgespec.cli.flags import NUMBER, POSITIVE, about, end_with_stdin, group, option
from edgespec.cli.server_api import PORT, ServerApi
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.garbage import leave_loaded_out
from edgespec.core.pacing import ForwardPacing
from edgespec.server.settings import ServerSecurity, ServerSettings
from edgespec.verifying.verifier import VerifierLimits

if TYPE_CHECKING:
    from edgespec.model.target_engine import PageCounts, TargetEngine
    from edgespec.server.server import Server
    from edgespec.server.server_drafter import ServerDrafters
    from edgespec.server.where import Advertised


@dataclass(frozen=True)
class Listening(ServerApi):
    """Where the server listens, and for how long after it is told to end."""

    host: str = option("Address to listen on.", "127.0.0.1")
    port: int = option("Port to listen on; 0 takes a free one.", 7433, type=PORT)
    metrics_port: int | None = option(
        "Serve /metrics, /health, /sessions and /where by HTTP on this port.", type=PORT
    )
    metrics_host: str = option("Address for --metrics-port. It has no access control.", "127.0.0.1")
    advertise: str | None = option(
        "Address that `POST /where` on --metrics-port tells devices to call.",
        show_default="--host and --port",
        metavar="HOST:PORT",
    )
    tls_name: str | None = option(
        "Name in the server's certificate, for the API and for devices that `POST /where` sends to an address."
    )
    drain_s: float = option("After SIGTERM, wait this long for texts to be finished.", 30.0, type=POSITIVE)

    @property
    def advertised(self) -> Advertised:
        """Raises EdgespecError for an address that is none."""
        from edgespec.server.where import Advertised

        advertised = Advertised(self.advertise, self.tls_name)
        if (self.advertise or self.tls_name) and self.metrics is None:
            raise EdgespecError(
                "--advertise and --tls-name are what POST /where says: give --metrics-port or --api-port too."
            )
        advertised.address(self.host, self.port)
        return advertised

    @property
    def metrics(self) -> tuple[str, int] | None:
        """Where /metrics and /where are; a free port of this machine where the API alone asks for them."""
        if self.metrics_port is not None:
            return self.metrics_host, self.metrics_port
        return None if self.api_port is None else ("127.0.0.1", 0)

    def api(
        self, server: Server, model: Model, metrics_port: int | None, security: ServerSecurity
    ) -> contextlib.AbstractContextManager[object]:
        """model: what the server serves. metrics_port: where the metrics are. security: the server's."""
        if self.metrics is None or metrics_port is None:
            return contextlib.nullcontext()
        where_url = f"http://{_called(self.metrics[0], metrics_port)}/where"
        return self.api_beside(_called(self.host, server.port), model, security, self.tls_name, where_url)


def _called(host: str, port: int) -> str:
    """How this machine calls a server that listens there."""
    from edgespec.server.where import EVERYWHERE

    return str(Address(EVERYWHERE.get(host, host), port))


@dataclass(frozen=True)
class HostedDraft:
    """A draft on the server."""

    colocated_draft: str = option(
        "Folder of a draft that the server runs for mode `colocated`, and for distant devices while it is idle. "
        "auto: the bundled draft, if the target is the bundled one; none: no draft.",
        "auto",
    )
    colocated_draft_tokens: int = option("Block length of this draft.", 4, type=click.IntRange(1, 64))
    colocated_draft_pace_ms: float | None = option(
        "For experiments: make each run of this draft take at least this long.", type=POSITIVE
    )

    def load(self, named: str | None, target: TargetEngine) -> ServerDrafters | None:
        """None: this server runs no draft. named: what --target names."""
        from edgespec.engines.bundled import bundled_engine
        from edgespec.server.server_drafter import ServerDrafters

        name = self.colocated_draft
        if name == "none" or (name == "auto" and named is not None):
            return None
        folder = bundled_engine() if name == "auto" else Path(name)
        return ServerDrafters(
            folder,
            target.vocabulary_hash,
            target.vocabulary_size,
            self.colocated_draft_tokens,
            self.colocated_draft_pace_ms,
        )


@dataclass(frozen=True)
class TargetPace:
    """A slower target, for experiments."""

    verify_pace_ms: float | None = option(
        "For experiments: make each forward of the target take at least this long.", type=POSITIVE
    )
    pace_rows: int = option("Rows that a forward computes in that time.", 32, type=click.IntRange(1))

    def pace(self) -> ForwardPacing | None:
        return None if self.verify_pace_ms is None else ForwardPacing(self.verify_pace_ms, self.pace_rows)


settings_options = {
    "max_sessions": about("Maximum number of open sessions.", type=click.IntRange(1)),
    "latency_ms": about(
        "Latency target per token. New sessions are refused while it cannot be kept.", type=POSITIVE
    ),
    "least_latency_ms": about(
        "The lowest latency target that a session may ask for.", show_default="--latency-ms", type=POSITIVE
    ),
    "resume_for_s": about("Keep a session for this long after its connection is lost.", type=NUMBER),
    "share_prefixes": about(
        "Let devices share what was computed of prompts that begin alike. A device can then find out what others have "
        "asked.",
        type=bool,
    ),
    "shared_memory": about(
        "Look up the texts of devices that allow it for other texts of the same tenant. They are kept in memory only.",
        type=bool,
    ),
    "busy_spin": about("Poll the sockets without sleeping: lower latency, one busy CPU core.", type=bool),
    "no_guesses": about(
        "Do not verify what the target chose behind rejected tokens as a guess of the next ones.", type=bool
    ),
}
security_options = {
    "tls_cert": about("The server's certificate, such as from `edgespec tls init`. Encrypts connections."),
    "tls_key": about("The private key of --tls-cert."),
    "tls_client_ca": about("Accept only devices with a certificate signed by this authority."),
    "tokens": about("Accept only devices with a token in this file; `edgespec token new` adds them."),
    "connections_a_device": about(
        "Connections of one device; a session may have two.", type=click.IntRange(1)
    ),
    "audit_log": about(
        "Append one JSON line to this file when a device comes in, opens a session, is refused or is cut off."
    ),
    "insecure": about("Serve other machines without TLS or tokens."),
}


@click.command()
@group("model", Model)
@group("listening", Listening)
@group("settings", ServerSettings, **settings_options)
@group("security", ServerSecurity, **security_options)
@group("hosted_draft", HostedDraft)
@group("target_pace", TargetPace)
@config_option
@end_with_stdin
def serve(
    model: Model,
    listening: Listening,
    settings: ServerSettings,
    security: ServerSecurity,
    hosted_draft: HostedDraft,
    target_pace: TargetPace,
    end_with_stdin: bool,
) -> None:
    """Serve a target model to devices until interrupted.

    Prints `edgespec: listening on HOST:PORT` when it is ready, then how many sessions fit and what memory it takes. To
    listen on an address that other machines can reach, it needs TLS and tokens. SIGTERM finishes the running texts
    first; SIGHUP reloads certificates and tokens. The token file is also read again whenever it changes.
    """
    model.check()  # before a model is loaded for nothing
    security.check(listening.host)
    listening.check_api(security)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with needs("server"):
        advertised = listening.advertised
        from edgespec.server.metrics import Metrics
        from edgespec.server.monitoring import monitoring
        from edgespec.server.server import Server

    target, leader = load_target(model, target_pace.pace())
    if target is None:
        return
    metrics = None if listening.metrics is None else Metrics()
    drafters = hosted_draft.load(model.target, target)
    settings = replace(
        settings,
        security=security,
        metrics=metrics,
        server_drafters=drafters,
        sampling_defaults=model.sampling_defaults(),
    )
    server = Server(target, listening.host, listening.port, settings)
    with contextlib.ExitStack() as stack:
        metrics_port = None
        if metrics is not None and listening.metrics is not None:
            endpoint = monitoring(server, metrics, target.pages, listening.metrics, advertised)
            metrics_port = stack.enter_context(endpoint)
        stack.enter_context(listening.api(server, model, metrics_port, security))
        fits = fitting(target.pages, target.context_length)
        _run(server, listening.drain_s, end_with_stdin, [fits, _memory(server, model)])
    if leader is not None:
        leader.end()


def fitting(pages: PageCounts, context_length: int) -> str:
    """What the key-value memory holds, in words."""
    limits = VerifierLimits(context_length)
    sessions = pages.count // -(-limits.slots(context_length) // pages.size)
    if sessions:
        return f"edgespec: {sessions} sessions of {context_length} tokens fit"
    return (
        f"edgespec: no session of {context_length} tokens fits, the context: texts of "
        f"{max(0, pages.count * pages.size - limits.slots(0))} tokens do; raise --kv-memory"
    )


def _memory(server: Server, model: Model) -> str:
    """What the server has and may take, in words."""
    pool = "" if model.kv_memory else "; keys and values come to it as texts fill them, without --kv-memory"
    return f"edgespec: {server.memory}{pool}"


def _run(server: Server, drain_s: float, end_with_stdin: bool, said: Sequence[str]) -> None:
    """Serve until a signal, or the end of standard input, stops the server."""
    signal.signal(signal.SIGINT, lambda *_: server.stop())
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    signal.signal(signal.SIGTERM, lambda *_: server.drain(drain_s))
    if end_with_stdin:
        when_stdin_ends(server.stop)
    click.echo(f"edgespec: listening on {Address(server.host, server.port)}")
    for line in said:
        click.echo(line)
    leave_loaded_out()
    server.run()
