"""`serve --api-port`: the OpenAI-compatible API beside a server, for clients that cannot draft."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import click

from edgespec.cli.child import child
from edgespec.cli.engine import Model
from edgespec.cli.flags import option
from edgespec.core.errors import EdgespecError
from edgespec.server.settings import ServerSecurity

PORT = click.IntRange(0, 65535)


@dataclass(frozen=True)
class ServerApi:
    """Where the API listens, and how it, which is a client of the server, comes in."""

    api_port: int | None = option(
        "Serve an OpenAI-compatible API for clients that do not draft on this port.", type=PORT
    )
    api_host: str = option(
        "Address for --api-port; elsewhere than here it needs EDGESPEC_API_KEY.", "127.0.0.1"
    )
    api_tls_ca: Path | None = option(
        "With TLS: the authority that signed --tls-cert, for the API, which is a client of this server. The API then "
        "speaks HTTPS with --tls-cert.",
    )
    api_token_file: Path | None = option("With --tokens: file with a token for the API.")

    def check_api(self, security: ServerSecurity) -> None:
        """Raises EdgespecError where the API, which is a client of this server, could not come in."""
        needed = (
            ("--api-tls-ca", self.api_tls_ca, "TLS", security.tls_cert),
            ("--api-token-file", self.api_token_file, "--tokens", security.tokens),
        )
        for flag, given, what, wanted in needed:
            if given is not None and not (wanted and self.api_port is not None):
                raise EdgespecError(
                    f"{flag} is for a server with {what} and --api-port: give them, or leave it out."
                )
            if self.api_port is not None and wanted and given is None:
                raise EdgespecError(f"the API is a client of this server, which has {what}: give {flag}.")
        if self.api_port is not None and security.tls_client_ca:
            raise EdgespecError(
                "--api-port has no certificate for --tls-client-ca: run `edgespec api --draft none` beside this "
                "server, with --tls-ca, --tls-cert and --tls-key."
            )

    def api_beside(
        self, server: str, model: Model, security: ServerSecurity, tls_name: str | None, where_url: str
    ) -> contextlib.AbstractContextManager[object]:
        """The API as a process beside the server: neither keeps the other waiting. server: its address as this machine
        calls it; model: what it serves; security, tls_name: its own."""
        if self.api_port is None:
            return contextlib.nullcontext()
        folder = str(model.folder())
        given = {
            "--server": server,
            "--draft": "none",
            "--tokenizer": folder,
            "--generation-config": folder if model.generation_config == "auto" else model.generation_config,
            "--host": self.api_host,
            "--port": self.api_port,
            "--where-url": where_url,
            "--tls-ca": self.api_tls_ca,
            "--tls-name": tls_name if security.tls_cert else None,
            "--token-file": self.api_token_file,
            "--https-cert": security.tls_cert,
            "--https-key": security.tls_key,
        }
        words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
        return child(["api", *words], "starting the API ...")
