"""The HTTP server under the application, with time-outs for clients that stop in the middle.

uvicorn has one time-out alone, between two requests. Here a request must have come, and an answer must be taken, in
time: a client that does neither would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
"""From a connection, or a request's first byte, to the end of the request's header."""

BODY_S = 60.0
"""From there to the end of its body."""

STALLED_S = 30.0
"""For so long a client may take nothing of what is there for it."""

END_S = 2
"""Answers that are still being written get this long when the API is stopped."""


def http_server(
    application: Any, certificate: Path | None = None, certificate_key: Path | None = None
) -> uvicorn.Server:
    """certificate: for HTTPS."""
    return uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            loop="asyncio",
            http=TimedProtocol,
            ws="none",
            ssl_certfile=certificate,
            ssl_keyfile=certificate_key,
            timeout_graceful_shutdown=END_S,
        )
    )


class TimedProtocol(HttpToolsProtocol):
    """One connection. Two timers: one for what comes, one for what goes."""

    _coming: asyncio.TimerHandle | None = None
    _going: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._received()
        self._taken()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._coming is None:
            self._expect(HEAD_S)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._expect(BODY_S)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._received()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._offer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._offer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken()

    def _expect(self, timeout_s: float) -> None:
        self._received()
        self._coming = self.loop.call_later(timeout_s, self._late, timeout_s)

    def _received(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None

    def _late(self, timeout_s: float) -> None:
        """An earlier request may be being answered: nothing is read meanwhile, so the client is not at fault."""
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        if self.pipeline or answering:
            self._expect(timeout_s)
        else:
            self.transport.abort()

    def _offer(self) -> None:
        self._taken()
        self._going = self.loop.call_later(STALLED_S, self._stalled)

    def _taken(self) -> None:
        if self._going is not None:
            self._going.cancel()
            self._going = None

    def _stalled(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
