"""Template and tokenizer take long for a long prompt: they wait for a turn, and what cannot fit is not encoded."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, ChatTokenizer, expected, open_api, post
from stubs import StubTarget

from edgespec.api.door import READERS

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CONTEXT_TOKENS = 64
LONG = "A" * (CONTEXT_TOKENS + 1)


class HeldTokenizer(ChatTokenizer):
    """Texts that begin with Z are encoded once `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.held = 0
        self.encoded: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.encoded.append(text)
        if text.startswith("Z"):
            self.held += 1
            assert self.go.wait(30)
        return super().encode(text, add_special_tokens)


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def begin(url: str, prompt: str, address: str) -> http.client.HTTPConnection:
    """A request of a client with this address."""
    connection = http.client.HTTPConnection(
        url.removeprefix("http://"), timeout=30, source_address=(address, 0)
    )
    body = json.dumps({"prompt": prompt, "max_tokens": 4, "temperature": 0})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    return connection


def text_of(connection: http.client.HTTPConnection) -> str:
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["choices"][0]["text"])


def test_long_prompts_of_an_address_leave_a_reader_to_others() -> None:
    tokenizer = HeldTokenizer()
    with open_api(tokenizer=tokenizer) as (url, door):
        crowd = [begin(url, f"Z{letter}", "127.0.0.1") for letter in "ABCDEFGH"]
        until(lambda: door.queue.running == len(crowd) and tokenizer.held == READERS - 1)
        assert text_of(begin(url, "HI", "127.0.0.2")) == expected("HI", 4)
        assert tokenizer.held == READERS - 1
        tokenizer.go.set()
        assert [text_of(one) for one in crowd] == [expected(f"Z{letter}", 4) for letter in "ABCDEFGH"]


def test_a_client_that_goes_while_its_prompt_is_read_holds_its_turn_until_it_is() -> None:
    tokenizer = HeldTokenizer()
    with open_api(tokenizer=tokenizer) as (url, door):
        connection = begin(url, "ZA", "127.0.0.1")
        until(lambda: tokenizer.held == 1)
        connection.close()
        assert text_of(begin(url, "HI", "127.0.0.1")) == expected("HI", 4)
        assert door.queue.running == 1
        tokenizer.go.set()
        until(lambda: door.queue.running == 0)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {"prompt": LONG}, "prompt"),
        ("completions", {"prompt": ["HI", LONG]}, "prompt"),
        ("chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}, PICTURE]}]},
            "messages",
        ),
        ("responses", {"input": LONG}, "input"),
    ],
    ids=str,
)
def test_a_text_that_cannot_fit_the_context_is_refused_before_it_is_encoded(
    path: str, body: dict[str, Any], param: str
) -> None:
    target, tokenizer = StubTarget(MODEL), HeldTokenizer()
    target.context_length = CONTEXT_TOKENS
    with open_api(target, tokenizer=tokenizer) as (url, _):
        assert post(f"{url}/v1/completions", {"prompt": "HI", "max_tokens": 2})[0] == 200
        status, answer, _ = post(f"{url}/v1/{path}", body)
    error = answer["error"]
    assert (status, error["param"], error["code"]) == (400, param, "context_length_exceeded")
    assert f"{CONTEXT_TOKENS} tokens of context" in error["message"] and "shorten" in error["message"]
    assert not any(LONG in text for text in tokenizer.encoded)


def test_metrics_are_made_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(
        "edgespec.api.metrics.generate_latest", lambda registry: made.append(registry) or b"page"
    )
    with open_api() as (_, door):
        assert [door.metrics.exposition() for _ in range(3)] == [b"page"] * 3
        assert len(made) == 1
        monkeypatch.setattr("edgespec.api.metrics.KEPT_S", 0.0)
        door.metrics.exposition()
        assert len(made) == 2
