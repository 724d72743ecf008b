"""Pictures at the device's API: `data:` URLs alone."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from stubs import serving

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("uvicorn")

import vision_models  # noqa: E402
from api_server import post, running  # noqa: E402

from edgespec.api.access import Access  # noqa: E402
from edgespec.api.door import Door  # noqa: E402
from edgespec.api.session_store import Source  # noqa: E402
from edgespec.core.tokenizer import Tokenizer  # noqa: E402
from edgespec.edge.link_options import LinkOptions  # noqa: E402
from edgespec.edge.prompt import Chat, PromptReader  # noqa: E402
from edgespec.model.target import Target  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}t1 {% for p in m.content %}{% if p.type == 'image' %}<|image_pad|> "
    "{% else %}{{ p.text }} {% endif %}{% endfor %}{% endfor %}t2"
)


def test_the_api_takes_data_urls_and_fetches_nothing(tmp_path: Path) -> None:
    folder = vision_models.save(vision_models.tiny("qwen2_vl"), tmp_path)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    target, tokenizer = (
        Target.load(folder, dtype="float64", device="cpu", kv_memory="16MiB"),
        Tokenizer.load(folder),
    )
    pixels, file = vision_models.pixels(target), tmp_path / "picture.png"
    Image.fromarray(pixels).save(file)
    with serving(target) as server:
        _check(target, tokenizer, server.port, pixels, file)


def _check(target: Target, tokenizer: Tokenizer, port: int, pixels: Any, file: Path) -> None:
    source = Source([("127.0.0.1", port)], None, tokenizer, LinkOptions())
    door = Door(source, "edgespec")

    def ask(base: str, url: str) -> tuple[int, Any]:
        content = [{"type": "text", "text": "t5"}, {"type": "image_url", "image_url": {"url": url}}]
        body = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 8,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": True,
        }
        return post(f"{base}/v1/chat/completions", body)[:2]

    def ask_for_response(base: str, url: str) -> tuple[int, Any]:
        content = [{"type": "input_text", "text": "t5"}, {"type": "input_image", "image_url": url}]
        body = {"input": [{"role": "user", "content": content}], "max_output_tokens": 8, "temperature": 0}
        return post(f"{base}/v1/responses", body)[:2]

    good = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    read = PromptReader(tokenizer, target.picture_format, vision_models.VOCABULARY).read(
        Chat(
            [{"role": "user", "content": [{"type": "text", "text": "t5"}, {"type": "image", "image": file}]}]
        ),
        True,
        0,
    )
    expected = vision_models.own_text(target, read.tokens, [pixels], 8)
    with running(door, Access()) as base:
        status, answer = ask(base, good)
        assert status == 200, answer
        assert answer["usage"]["prompt_tokens"] == len(read.tokens)
        assert answer["choices"][0]["message"]["content"].strip() == tokenizer.decode(expected)
        status, answer = ask_for_response(base, good)
        assert status == 200 and answer["usage"]["input_tokens"] == len(read.tokens), answer
        [part] = answer["output"][0]["content"]
        assert tokenizer.decode(expected).startswith(part["text"].strip())
        for url, message in (
            ("https://example.com/a.png", "other URLs are not fetched"),
            ("data:image/png;base64,@@@", "not base64"),
            ("data:image/png;base64," + base64.b64encode(b"nonsense").decode(), "cannot be decoded"),
        ):
            status, answer = ask(base, url)
            assert status == 400 and message in answer["error"]["message"], answer
            status, answer = ask_for_response(base, url)
            assert (status, answer["error"]["param"]) == (400, "input"), answer
            assert message in answer["error"]["message"]
