"""Clients that send nonsense, in pieces, or nothing, and that do not read: nothing breaks, and places come free."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, expected, open_api
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import StubTarget

from edgespec.api.door import Limits

CHAT = {"messages": [{"role": "user", "content": "HI"}], "max_tokens": 2, "temperature": 0}
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=3)
)
names = st.sampled_from(
    [
        *(
            "messages",
            "prompt",
            "input",
            "max_tokens",
            "temperature",
            "top_p",
            "n",
            "stop",
            "seed",
            "logprobs",
        ),
        *(
            "top_logprobs",
            "logit_bias",
            "tools",
            "tool_choice",
            "response_format",
            "stream_options",
            "edgespec",
        ),
        *(
            "instructions",
            "user",
            "model",
            "echo",
            "guided_json",
            "stop_token_ids",
            "bad_words",
            "min_tokens",
        ),
    ]
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    target = StubTarget(MODEL)
    target.context_length = 64  # whatever length is asked for
    with open_api(target) as (url, _):
        yield urlsplit(url).netloc


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(PATHS), st.dictionaries(names, values, max_size=4))
def test_any_json_gets_an_answer_or_a_refusal_that_says_why(
    address: str, path: str, body: dict[str, Any]
) -> None:
    whole = {
        **{"/v1/completions": {"prompt": "HI"}, "/v1/responses": {"input": "HI"}}.get(path, CHAT),
        **body,
    }
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", path, json.dumps(whole), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    assert answer.status == 200 or (answer.status < 500 and content["error"]["message"])


def test_a_body_may_come_in_chunks_and_the_connection_is_kept(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=30)
    body = json.dumps({"prompt": "HI", "max_tokens": 4, "temperature": 0}).encode()
    for _ in range(3):
        pieces = (body[at : at + 5] for at in range(0, len(body), 5))
        headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        connection.request("POST", "/v1/completions", pieces, headers, encode_chunked=True)
        answer = connection.getresponse()
        assert json.loads(answer.read())["choices"][0]["text"] == expected("HI", 4)
        held = connection.sock
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}' and connection.sock is held
    connection.close()


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/9.9\r\n\r\n", b"POST " + b"a" * 100_000]
)
def test_what_is_no_http_disturbs_nobody(address: str, sent: bytes) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200


def test_a_client_that_never_reads_loses_its_place() -> None:
    target = StubTarget(MODEL)
    limits = Limits(streams=1, stalled_s=0.2)
    with open_api(target, limits=limits, send_buffer_bytes=4096) as (url, door):
        host, port = urlsplit(url).netloc.split(":")
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect((host, int(port)))
            body = json.dumps(
                {"prompt": "HI", "max_tokens": 1000, "stream": True, "logprobs": 20, "ignore_eos": True}
            ).encode()
            peer.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            _until(lambda: door.queue.running == 1)
            _until(lambda: door.queue.running == 0)
            committed = sum(len(one.session.tokens) for one in door.store._kept.values())
            assert committed < 1000  # the text waited for its reader


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)
