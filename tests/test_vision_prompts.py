"""Pictures in chats, at the command line and at the device's API."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

import vision_models  # noqa: E402
from vision_models import END, PLACEHOLDER, START  # noqa: E402

from edgespec.cli.main import main  # noqa: E402
from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.core.tokenizer import Tokenizer  # noqa: E402
from edgespec.edge.conversation import Conversation  # noqa: E402
from edgespec.edge.prompt import PromptReader  # noqa: E402
from edgespec.edge.session import Session  # noqa: E402

PARTS = (
    "{% for m in messages %}t1 {% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' %}<|vision_start|> <|image_pad|> <|vision_end|> {% else %}{{ p.text }} {% endif %}"
    "{% endfor %}{% endif %} {% endfor %}t2"
)
TEXTS = "{% for m in messages %}t1 {{ m.content }} {% endfor %}t2"
BLIND = "{% for m in messages %}t1 {% endfor %}t2"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with vision_models.served(tmp_path_factory.mktemp("target"), PARTS) as one:
        yield one


@pytest.fixture
def file(served: SimpleNamespace, tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(vision_models.pixels(served.target)).save(path)
    return path


def messages(picture: Any) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "t3"},
        {
            "role": "user",
            "content": [{"type": "image", "image": picture}, {"type": "text", "text": "t4"}],
        },
    ]


def reader(served: SimpleNamespace, template: str | None) -> PromptReader:
    tokenizer = Tokenizer.load(served.folder)
    tokenizer.chat_template = template
    return PromptReader(tokenizer, served.target.picture_format, vision_models.VOCABULARY)


@pytest.mark.parametrize("template", [PARTS, TEXTS])
def test_a_chat_has_a_pictures_rows_where_its_template_puts_it(
    served: SimpleNamespace, file: Path, template: str
) -> None:
    read = reader(served, template).read(messages(file), True, 0)
    (picture,) = read.pictures
    assert read.tokens == [1, 3, 1, START, *[PLACEHOLDER] * picture.span.rows, END, 4, 2]
    assert picture.span.first_row == 4


def test_what_a_chat_refuses(served: SimpleNamespace, file: Path) -> None:
    with pytest.raises(EdgespecError, match="leaves pictures out"):
        reader(served, BLIND).read(messages(file), True, 0)
    with pytest.raises(EdgespecError, match="no chat template"):
        reader(served, None).read(messages(file), True, 0)
    with pytest.raises(EdgespecError, match="text, image or image_url"):
        reader(served, PARTS).read([{"role": "user", "content": [{"type": "video"}]}], True, 0)
    with pytest.raises(EdgespecError, match="other URLs are not fetched"):
        url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        reader(served, PARTS).read([{"role": "user", "content": [url]}], True, 0)
    blind = PromptReader(served.tokenizer, None, vision_models.VOCABULARY)
    with pytest.raises(EdgespecError, match="reads no pictures"):
        blind.read(messages(file), True, 0)


def test_a_conversation_goes_on_behind_a_picture(served: SimpleNamespace, file: Path) -> None:
    params = SamplingParams(temperature=0.0, max_new_tokens=4, seed=9, ignore_eos=True)
    with Session(
        ("127.0.0.1", served.port), None, params, mode="cloud", tokenizer=served.tokenizer
    ) as session:
        conversation = Conversation(served.tokenizer, "t3")
        session.prompt(conversation.first_turn("t4", [file]))
        assert session.prompt_tokens[-2:] == [4, 2]
        list(session)
        answer = session.tokens
        session.append(conversation.next_turn("t5", answer))
        text = session.all_tokens
        assert text[len(session.prompt_tokens) :] == [*answer, 1, 5, 2]
        list(session)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_generate_takes_pictures(
    served: SimpleNamespace, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (
        "generate",
        "--server",
        f"127.0.0.1:{served.port}",
        "--mode",
        "cloud",
        "--json",
        "--temperature",
        "0",
    )
    command = (*common, "--max-new-tokens", "8", "--draft", str(served.folder), "--prompt", "t5 t6")
    code, out, _ = run(capsys, *command, "--image", str(file), "--image", str(file))
    assert code == 0
    report = json.loads(out)
    pixels = vision_models.pixels(served.target)
    assert report["prompt_tokens"].count(START) == 2
    assert report["tokens"] == vision_models.own_text(
        served.target, report["prompt_tokens"], [pixels, pixels], len(report["tokens"])
    )
    code, _, err = run(capsys, *command, "--image", str(file.parent / "none.png"))
    assert code == 2 and "none.png cannot be read" in err


def test_a_large_picture_is_not_decoded_on_the_device(served: SimpleNamespace) -> None:
    bomb = io.BytesIO()
    Image.fromarray(np.zeros((8000, 8000), np.uint8)).save(bomb, "PNG")
    with pytest.raises(EdgespecError, match="too many to read"):
        reader(served, None).read([bomb.getvalue(), "t5"], True, 0)
