"""Every parameter is honoured or refused by its name, in OpenAI's error shape; limits and access rules hold."""

import http.client
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import open_api, post

from edgespec.api.access import Access
from edgespec.api.schema import NEUTRAL
from edgespec.core.errors import EdgespecError

KEY = "a-key-of-sixteen"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "HI"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_api(access=Access(body_bytes=20_000)) as (url, _):
        yield url


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("presence_penalty", 3),
        ("min_tokens", 9),
        ("response_format", {"type": "poem"}),
        ("response_format", {"type": "json_schema"}),
        ("structured_outputs", {"json": {}, "regex": "a"}),
        ("guided_json", "{"),
        ("guided_choice", []),
        ("top_logprobs", 3),
        ("top_logprobs", 21),
        ("audio", {"voice": "alloy"}),
        ("no_such_thing", 1),
        ("temperature", -1),
        ("temperature", "warm"),
        ("top_p", 0),
        ("top_k", -2),
        ("n", 0),
        ("n", 9),
        ("seed", 2**64),
        ("max_tokens", 0),
        ("stop", 5),
        ("stop", ["A"] * 17),
        ("logit_bias", {"-1": 1}),
        ("stream_options", {"include_usage": True}),
        ("edgespec.mode", "warp"),
        ("edgespec.offline", True),
        ("edgespec.no_such_thing", True),
        ("messages", []),
        ("messages[0].role", "robot"),
        ("messages[0].audio", {"id": "x"}),
        ("messages[0].content[0].type", "image_url"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(url: str, param: str, value: Any) -> None:
    body = json.loads(json.dumps(CHAT))
    place = body
    *path, name = param.replace("[0]", ".0").split(".")
    for step in path:
        if isinstance(place, list):
            place = place[0]
        elif step == "content":
            place["content"] = [{"type": "text", "text": "HI"}]
            place = place["content"]
        else:
            place = place.setdefault(step, {})
    (place[0] if isinstance(place, list) else place)[name] = value
    status, answer, _ = post(f"{url}/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"
    assert param in answer["error"]["message"]


def test_values_that_ask_for_nothing_are_accepted(url: str) -> None:
    for number in range(2):
        neutral = {name: values[min(number, len(values) - 1)] for name, values in NEUTRAL.items()}
        assert post(f"{url}/v1/chat/completions", {**CHAT, **neutral})[0] == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"messages": NaN}'])
def test_what_is_no_request_is_refused(url: str, body: bytes) -> None:
    status, answer, _ = post(f"{url}/v1/chat/completions", body)
    assert status == 400 and answer["error"]["message"]


def test_a_prompt_over_the_context_is_refused_by_its_parameter(url: str) -> None:
    status, answer, _ = post(f"{url}/v1/completions", {"prompt": "A" * 600})
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (
        400,
        "prompt",
        "context_length_exceeded",
    )


@pytest.mark.parametrize(
    "form", [{"guided_regex": "[0-9]+"}, {"response_format": {"type": "json_object"}}], ids=str
)
def test_a_text_with_a_form_cannot_go_on_behind_its_end(url: str, form: dict[str, Any]) -> None:
    status, answer, _ = post(f"{url}/v1/chat/completions", {**CHAT, **form, "ignore_eos": True})
    assert (status, answer["error"]["param"]) == (400, "ignore_eos")
    assert "guide" in answer["error"]["message"]


def test_a_large_body_is_refused_however_its_length_is_told(url: str) -> None:
    body = json.dumps({"prompt": "A" * 30_000}).encode()
    assert post(f"{url}/v1/completions", body)[0] == 413
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    chunks = (body[start : start + 5000] for start in range(0, len(body), 5000))
    connection.request(
        "POST", "/v1/completions", chunks, {"Content-Type": "application/json"}, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_head_options_and_unknown_paths_are_answered(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    for method, path, status in (
        ("GET", "/health", 200),
        ("GET", "/version", 200),
        ("GET", "/openapi.json", 200),
        ("HEAD", "/health", 200),
        ("HEAD", "/metrics", 200),
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/v1/models/gpt", 404),
        ("HEAD", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/nothing", 404),
    ):
        connection.request(method, path)  # all on one connection that is kept alive
        answer = connection.getresponse()
        answer.read()
        assert (path, answer.status) == (path, status)
    connection.close()


@pytest.mark.parametrize(
    "headers", [{"Host": "rebound.example"}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}]
)
def test_without_a_key_web_pages_from_elsewhere_may_not_ask(url: str, headers: dict[str, str]) -> None:
    status, answer, _ = post(f"{url}/v1/chat/completions", CHAT, headers)
    assert status == 403 and answer["error"]["code"] in ("host", "origin")


def test_a_page_of_an_allowed_origin_may_ask() -> None:
    access = Access(origins=["https://app.example"])
    with open_api(access=access) as (url, _):
        status, _, headers = post(f"{url}/v1/chat/completions", CHAT, {"Origin": "https://app.example"})
        assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://app.example"


def test_with_a_key_only_who_shows_it_is_served() -> None:
    with open_api(access=Access([KEY])) as (url, _):
        for shown in ("", "Bearer wrong", KEY, f"Basic {KEY}", f"Bearer {KEY}x"):
            assert post(f"{url}/v1/chat/completions", CHAT, {"Authorization": shown})[0] == 401
        assert post(f"{url}/v1/chat/completions", CHAT, {"Authorization": f"Bearer {KEY}"})[0] == 200
        assert urllib.request.urlopen(f"{url}/health").status == 200


def test_an_api_for_other_machines_needs_a_key_that_is_not_guessed() -> None:
    with pytest.raises(EdgespecError, match="needs an API key"):
        Access().check("0.0.0.0")
    with pytest.raises(EdgespecError, match="16 characters"):
        Access(["short"]).check("127.0.0.1")
    Access([KEY]).check("0.0.0.0")
