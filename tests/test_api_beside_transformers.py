"""The same requests to `transformers serve` and to the API, over the same weights: the same texts, fields, finish
reasons and counts. It takes half a minute, and so runs where EDGESPEC_TRANSFORMERS_SERVE=1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("openai")
pytest.importorskip("transformers.cli.transformers")

from api_server import post

from edgespec.cli.child import child
from edgespec.engines.model_folder import PAIR_FOLDER

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.environ.get("EDGESPEC_TRANSFORMERS_SERVE") != "1", reason="set EDGESPEC_TRANSFORMERS_SERVE=1"
    ),
]

TARGET = str(PAIR_FOLDER / "target")
SERVE = "import sys; sys.argv[0] = 'transformers'; from transformers.cli.transformers import main; main()"
OWN_VALUES = {"id", "created", "model", "system_fingerprint"}
CHAT = {"messages": [{"role": "user", "content": "def read_lines(path):"}]}
PROMPT = {"prompt": "def read_lines(path):\n    "}
SHORT: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
MODELS = (TARGET, "edgespec")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def transformers_serve() -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    options = ["serve", TARGET, "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1], "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVE, *options, "--dtype", "float32"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                assert process.poll() is None, "transformers serve has ended"
                try:
                    urllib.request.urlopen(f"{url}/v1/models", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield url
        finally:
            process.kill()


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    """Of transformers' server, and of ours."""
    port = free_port()
    serve = ["serve", "--port", "0", "--threads", "1", "--dtype", "float32", "--api-port", str(port)]
    with transformers_serve() as theirs, child(serve, "starting"):
        yield theirs, f"http://127.0.0.1:{port}"


def same(theirs: Any, ours: Any, place: str = "") -> None:
    """Ours has all that theirs has, and more."""
    if isinstance(theirs, dict):
        for name, value in theirs.items():
            assert name in ours, f"{place}.{name} is missing"
            if name in OWN_VALUES:
                assert type(ours[name]) is type(value), f"{place}.{name}"
            else:
                same(value, ours[name], f"{place}.{name}")
    elif isinstance(theirs, list):
        assert len(theirs) == len(ours), place
        for index, pair in enumerate(zip(theirs, ours, strict=True)):
            same(*pair, f"{place}[{index}]")
    else:
        assert theirs == ours, place


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", PROMPT),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 1}),
    ],
)
def test_whole_answers_have_the_same_fields_and_values(
    urls: tuple[str, str], path: str, asked: dict[str, Any]
) -> None:
    bodies = ({"model": model, **SHORT, **asked} for model in MODELS)
    theirs, ours = (post(f"{url}{path}", body) for url, body in zip(urls, bodies, strict=True))
    assert theirs[0] == ours[0] == 200
    same(theirs[1], ours[1])


def chunks(url: str, model: str) -> list[dict[str, Any]]:
    body = json.dumps({"model": model, **SHORT, **CHAT, "stream": True}).encode()
    asked = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return [json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]


def test_streams_make_the_same_text_and_end_for_the_same_reason(urls: tuple[str, str]) -> None:
    texts, reasons = [], []
    for url, model in zip(urls, MODELS, strict=True):
        choices = [one["choices"][0] for one in chunks(url, model) if one["choices"]]
        assert choices[0]["delta"]["role"] == "assistant"
        texts.append("".join(one["delta"].get("content") or "" for one in choices))
        reasons.append([one["finish_reason"] for one in choices if one.get("finish_reason")])
    assert texts[0] == texts[1] and reasons[0] == reasons[1] == ["length"]
