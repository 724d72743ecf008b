"""The commands that open the API, with the bundled pair: `edgespec api`, `serve --api-port` and `up`."""

import json
import socket
import ssl
import urllib.request
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import post
from pydantic import BaseModel

from edgespec.cli.child import child
from edgespec.core.errors import EdgespecError
from edgespec.server.private_authority import issue_for_server, make_authority
from edgespec.server.tokens import add_token

pytestmark = pytest.mark.usefixtures("quick_start")

PROMPT = "def read_lines(path):\n    "
GREEDY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}


def text_of(port: int, **more: Any) -> str:
    status, body, _ = post(f"http://127.0.0.1:{port}/v1/completions", {**GREEDY, **more})
    assert status == 200, body
    return str(body["choices"][0]["text"])


@pytest.mark.needs_torch
@pytest.mark.timeout(300)
def test_the_apis_of_server_and_device_give_the_same_text() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        api_port = free.getsockname()[1]
    serve = ["serve", "--port", "0", "--threads", "1", "--dtype", "float64", "--api-port", str(api_port)]
    with child(serve, "starting") as (host, port):
        cloud = text_of(api_port)
        assert text_of(api_port, edgespec={"mode": "colocated"}) == cloud
        check_parsed_answers(f"http://127.0.0.1:{api_port}/v1")
        with child(["api", "--server", f"{host}:{port}", "--port", "0"], "starting") as (_, device_port):
            assert {text_of(device_port, edgespec={"mode": mode}) for mode in ("auto", "sync")} == {cloud}


class Order(BaseModel):
    direction: Literal["left", "right"]
    metres: Literal[1, 2]


def check_parsed_answers(url: str) -> None:
    """OpenAI's own client makes a schema of a pydantic model, and the model of the answer."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        asked = {"model": "edgespec", "temperature": 0}
        messages = [{"role": "user", "content": "go"}]
        chat = client.chat.completions.parse(**asked, messages=messages, response_format=Order)
        response = client.responses.parse(**asked, input="go", text_format=Order)
        assert chat.choices[0].message.parsed == response.output_parsed
        assert isinstance(response.output_parsed, Order)


@pytest.mark.needs_torch
@pytest.mark.timeout(300)
def test_the_api_of_a_server_with_tls_and_tokens_speaks_https(tmp_path: Path) -> None:
    make_authority(tmp_path)
    issue_for_server(tmp_path, ["server.example", "localhost"], 2)
    (tmp_path / "token").write_text(add_token(tmp_path / "tokens", "api"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        api_port = free.getsockname()[1]
    given = {
        "--tls-cert": tmp_path / "server.pem",
        "--tls-key": tmp_path / "server.key",
        "--tls-name": "server.example",
        "--tokens": tmp_path / "tokens",
        "--api-port": api_port,
        "--api-tls-ca": tmp_path / "ca.pem",
        "--api-token-file": tmp_path / "token",
    }
    options = [str(word) for pair in given.items() for word in pair]
    with child(["serve", "--port", "0", "--threads", "1", *options], "starting"):
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        asked = urllib.request.Request(
            f"https://localhost:{api_port}/v1/completions",
            json.dumps(GREEDY).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, context=trusted, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["text"]


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tokens", "tokens"], "give --api-token-file"),
        (["--api-token-file", "token"], "is for a server with --tokens"),
        (["--tls-cert", "server.pem", "--tls-key", "server.key"], "give --api-tls-ca"),
    ],
)
def test_an_api_that_could_not_come_in_is_refused_at_once(
    options: list[str], sentence: str, tmp_path: Path
) -> None:
    make_authority(tmp_path)
    issue_for_server(tmp_path, ["localhost"], 2)
    (tmp_path / "token").write_text(add_token(tmp_path / "tokens", "api"))
    placed = [one if one.startswith("--") else str(tmp_path / one) for one in options]
    with (
        pytest.raises(EdgespecError, match=sentence),
        child(["serve", "--port", "0", "--api-port", "0", *placed], "starting"),
    ):
        pass


@pytest.mark.needs_torch
@pytest.mark.timeout(300)
def test_up_opens_everything() -> None:
    with child(["up", "--port", "0", "--rtt-ms", "5", "--no-browser"], "starting") as (_, port):
        assert b"<title>edgespec</title>" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
        assert text_of(port)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "needs an API key"),
        (["--draft", "none"], "there is no server at 127.0.0.1:9"),
        (["--tokenizer", "."], "holds no tokenizer.json"),
        (["--api-key-file", "missing"], "cannot read the API keys"),
        (["--https-cert", "cert.pem"], "give both --https-cert and --https-key"),
        (["--https-cert", "no.pem", "--https-key", "no.key"], "cannot use no.pem with no.key"),
        (["--otlp-traces-endpoint", "collector:4318"], "must be a URL of http or https"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGESPEC_API_KEY", raising=False)
    with (
        pytest.raises(EdgespecError, match=sentence),
        child(["api", "--server", "127.0.0.1:9", *arguments], "starting"),
    ):
        pass


def test_an_api_key_from_a_file_is_asked_for(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key-of-a-device\nsecond-key-of-a-device\n")
    command = [
        "api",
        "--server",
        "127.0.0.1:9",
        "--port",
        "0",
        "--api-key-file",
        str(keys),
        "--timeout-s",
        "0.2",
    ]
    with child(command, "starting") as (_, port):
        url = f"http://127.0.0.1:{port}/v1/completions"
        assert post(url, GREEDY)[0] == 401
        status, body, headers = post(url, GREEDY, {"Authorization": "Bearer second-key-of-a-device"})
        assert (status, body["error"]["code"]) == (503, "server_unavailable")
        assert headers["Retry-After"]
