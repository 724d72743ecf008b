"""A door over a stub target, served by HTTP on a free port for tests that speak to it as clients do."""

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from scripted_models import HashModel
from stubs import StubDraft, StubTarget, StubTokenizer, serving

from edgespec.api.access import Access
from edgespec.api.app import create_app
from edgespec.api.connections import Connections, CountingListener
from edgespec.api.door import Door, Limits
from edgespec.api.http_server import http_server
from edgespec.api.session_store import Source
from edgespec.edge.link_options import LinkOptions

MODEL = HashModel(draft_right=0.7, exit_right=0.8)


class ApiTokenizer(StubTokenizer):
    """With as much of the library's own tokenizer as the API asks for."""

    @property
    def core(self) -> Any:
        def encode_batch(texts: Sequence[str], add_special_tokens: bool) -> list[Any]:
            return [SimpleNamespace(ids=self.encode(text, add_special_tokens)) for text in texts]

        return SimpleNamespace(encode_batch=encode_batch, get_vocab=lambda with_added_tokens: {"A": 0})


class ChatTokenizer(ApiTokenizer):
    """Messages one after another, each behind a letter for its role; an answer is what follows `A`."""

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        roles = {"system": "S", "user": "U", "assistant": "A", "tool": "T"}
        text = "".join(roles[message["role"]] + message["content"] for message in messages)
        return text + ("A" if add_generation_prompt else "")


def expected(prompt: str, tokens: int) -> str:
    """What plain decoding writes behind this prompt."""
    tokenizer = StubTokenizer()
    return tokenizer.decode(MODEL.continuation(tokenizer.encode(prompt), tokens))


@contextmanager
def open_api(
    target: StubTarget | None = None,
    *,
    limits: Limits | None = None,
    link: LinkOptions | None = None,
    access: Access | None = None,
    port: int | None = None,
    tokenizer: Any = None,
    scripted: HashModel = MODEL,
    tracing: Any = None,
    send_buffer_bytes: int | None = None,
    connections: Connections | None = None,
) -> Iterator[tuple[str, Door]]:
    """The API's URL, and its door. port: of another server than a stub target's. send_buffer_bytes: of its sockets."""
    with serving(target or StubTarget(scripted)) as server:
        source = Source(
            [("127.0.0.1", port or server.port)],
            StubDraft(scripted),  # type: ignore[arg-type]
            tokenizer or ChatTokenizer(),
            link or LinkOptions(),
        )
        door = Door(source, "edgespec", limits)
        with running(door, access or Access(), tracing, send_buffer_bytes, connections) as url:
            yield url, door


@contextmanager
def running(
    door: Door,
    access: Access,
    tracing: Any = None,
    send_buffer_bytes: int | None = None,
    connections: Connections | None = None,
) -> Iterator[str]:
    listening = CountingListener(socket.AF_INET, Connections(2048) if connections is None else connections)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    if send_buffer_bytes is not None:  # the accepted sockets have it too
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    server = http_server(create_app(door, access, tracing=tracing))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any, Mapping[str, str]]:
    """Status, the parsed body and the headers."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers
