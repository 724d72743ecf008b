"""How an answer leaves: as one JSON object or as server-sent events, written by a task that ends when the client goes.

The client may go at any time, also while a text waits for its turn. A client that takes nothing for long is given up,
so that it does not hold a place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from edgespec.api.door import TextStep
from edgespec.api.errors import ApiError

DONE = b"data: [DONE]\n\n"
EVENT_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(content: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {encode(content)}\n\n".encode()


class Answer(Response):
    """Runs `pieces`, which are made of `texts`, as long as the client is there.

    stream: each piece is an event's bytes; else the only one is the body. An error before the first piece gets its own
    status; a later one is sent as an event."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        texts: AsyncGenerator[TextStep, None],
        stream: bool,
        stalled_s: float,
    ) -> None:
        super().__init__(media_type="text/event-stream" if stream else "application/json")
        self._pieces = pieces
        self._texts = texts
        self._stream = stream
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._write(scope, receive, _Patient(send, self._stalled_s)))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await work

    async def _write(self, scope: Scope, receive: Receive, send: _Patient) -> None:
        pieces = self._pieces
        begun = False
        try:
            async for piece in pieces:
                if not begun:
                    begun = True
                    await self._begin(send, len(piece))
                await send({"type": "http.response.body", "body": piece, "more_body": self._stream})
        except ApiError as error:
            if not begun:
                return await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
            await send({"type": "http.response.body", "body": event(error.body()), "more_body": True})
        finally:
            await pieces.aclose()
            await self._texts.aclose()
        if self._stream:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: _Patient, size: int) -> None:
        if self._stream:
            del self.headers["content-length"]
            self.headers.update(EVENT_HEADERS)
        else:
            self.headers["content-length"] = str(size)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})


class _Patient:
    """Sends; a client that takes nothing for `stalled_s` ends the task that sends to it."""

    def __init__(self, send: Send, stalled_s: float) -> None:
        self._send = send
        self._stalled_s = stalled_s

    async def __call__(self, message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(self._stalled_s, task.cancel)
        try:
            await self._send(message)
        finally:
            timer.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
