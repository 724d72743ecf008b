"""Pictures from a session to a target over real sockets: every mode gives the target's own text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stubs import StubDraft, serving

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

import vision_models  # noqa: E402
from scripted_models import HashModel  # noqa: E402

from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.core.tokenizer import Tokenizer  # noqa: E402
from edgespec.drafting.modes import POLICIES  # noqa: E402
from edgespec.edge import sent_pictures  # noqa: E402
from edgespec.edge.picture import Picture  # noqa: E402
from edgespec.edge.session import Session  # noqa: E402
from edgespec.model.target import Target  # noqa: E402

COUNT = 10
MODES = [name for name in POLICIES if name != "colocated"]


@dataclass(frozen=True)
class Known(HashModel):
    """A draft that knows the text without its pictures' rows, and is right most of the time."""

    text: tuple[int, ...] = ()

    def target(self, text: Any) -> int:
        assert vision_models.PLACEHOLDER not in text
        return self.text[len(text)] if len(text) < len(self.text) else 0


class KnowingDraft(StubDraft):
    """With the target's vocabulary."""

    vocabulary_size = vision_models.VOCABULARY

    def __init__(self, known: Known, vocabulary_hash: bytes) -> None:
        super().__init__(known)
        self.vocabulary_hash = vocabulary_hash


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with vision_models.served(tmp_path_factory.mktemp("target")) as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_pictures, "SENT", sent_pictures.SentPictures())
    monkeypatch.setattr("edgespec.edge.connection.SENT", sent_pictures.SENT)


def opened(served: SimpleNamespace, mode: str = "cloud", draft: Any = None, **params: Any) -> Session:
    return Session(
        ("127.0.0.1", served.port),
        draft,
        SamplingParams(
            **{"temperature": 0.0, "max_new_tokens": COUNT, "seed": 9, "ignore_eos": True, **params}
        ),
        mode=mode,
        tokenizer=served.tokenizer,
    )


def finished(session: Session) -> list[int]:
    for _ in session:
        pass
    return session.tokens


def expected(served: SimpleNamespace, session: Session, *pixels: Any, temperature: float = 0.0) -> list[int]:
    prompt = session.all_tokens[: len(session.all_tokens) - len(session.tokens)]
    return vision_models.own_text(served.target, prompt, pixels, COUNT, temperature, 9)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_writes_the_targets_own_text(
    served: SimpleNamespace, mode: str, temperature: float
) -> None:
    pixels = [vision_models.pixels(served.target, number) for number in range(2)]
    parts = ["t5 t6", Picture(pixels[0], lossless=True), "t7", Picture(pixels[1], lossless=True), "t8 t9"]
    right, draft = written(served, parts, temperature)
    with opened(served, mode, draft, temperature=temperature) as session:
        session.prompt(parts)
        assert finished(session) == right
        assert mode == "cloud" or session.statistics.accepted or not session.statistics.sent


@pytest.mark.parametrize("family", [family for family in vision_models.FAMILIES if family != "qwen2_vl"])
def test_other_families_at_a_server(tmp_path: Path, family: str) -> None:
    folder = vision_models.save(vision_models.tiny(family), tmp_path)
    target = Target.load(folder, dtype="float64", device="cpu", kv_memory="16MiB")
    pictures = [Picture(vision_models.pixels(target, number), lossless=True) for number in range(2)]
    # The scheduler's chunks of 256 rows end within a picture.
    long = [" ".join(f"t{5 + i}" for i in range(252)), *pictures, "t7"]
    short = ["t5", pictures[0], "t6", pictures[1], "t7"]
    with serving(target) as server:
        served = SimpleNamespace(target=target, port=server.port, tokenizer=Tokenizer.load(folder))
        for temperature in (0.0, 0.8):
            written(served, long, temperature)  # alone, then on pages that this one published
            written(served, long, temperature)
            right, draft = written(served, short, temperature)
            for mode in MODES:
                with opened(served, mode, draft, temperature=temperature) as session:
                    session.prompt(short)
                    assert finished(session) == right, mode


def written(served: SimpleNamespace, parts: list[Any], temperature: float) -> tuple[list[int], KnowingDraft]:
    """The target's own text behind a prompt, which mode `cloud` writes too, and a draft that knows it."""
    with opened(served, temperature=temperature) as session:
        session.prompt(parts)
        text, pixels = finished(session), [one.source for one in parts if isinstance(one, Picture)]
        assert text == expected(served, session, *pixels, temperature=temperature)
        read = [token for token in session.all_tokens if token != vision_models.PLACEHOLDER]
    return text, KnowingDraft(Known(text=tuple(read)), served.tokenizer.vocabulary_hash)


def test_pictures_come_in_many_forms(served: SimpleNamespace, tmp_path: Path) -> None:
    image = Image.fromarray(vision_models.pixels(served.target, 3))
    file = io.BytesIO()
    image.save(file, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(file.getvalue())
    forms = [Picture(np.asarray(image), lossless=True), Picture(image, lossless=True), file.getvalue(), path]
    texts = []
    for form in forms:
        with opened(served) as session:
            session.prompt([form, "t5"])
            texts.append((session.prompt_tokens, finished(session)))
    assert all(text == texts[0] for text in texts)
    large = Image.fromarray(np.zeros((900, 1200, 3), np.uint8))
    with opened(served) as session:  # scaled to what the target takes, as JPEG
        session.prompt(["t5", large])
        (picture,) = session.pictures
        assert (picture.format, picture.span.height % 28, picture.span.width % 28) == ("jpeg", 0, 0)
        assert len(finished(session)) == COUNT


def test_a_next_turn_brings_a_picture_and_may_not_cut_one(served: SimpleNamespace) -> None:
    pixels = [vision_models.pixels(served.target, number) for number in range(2)]
    with opened(served) as session:
        session.prompt(["t5", Picture(pixels[0], lossless=True), "t6"])
        finished(session)
        session.append(["t7", Picture(pixels[1], lossless=True), "t8"])
        assert finished(session) == expected(served, session, *pixels)
        span = session.pictures[1].span
        with pytest.raises(EdgespecError, match="within a picture"):
            session.append("t9", keep_length=span.first_row + 1)
        session.append("t9", keep_length=span.first_row)
        assert finished(session) == expected(served, session, pixels[0])
        assert len(session.pictures) == 1


def test_a_file_goes_up_once_and_again_when_the_server_forgot_it(served: SimpleNamespace) -> None:
    pixels = vision_models.pixels(served.target, 5)
    sent, texts = [], []
    for _ in range(2):
        with opened(served) as session:
            session.prompt(["t5", Picture(pixels, lossless=True)])
            texts.append(finished(session))
            sent.append(session._connection.link.bytes_sent)
    assert sent[1] < 1500 < sent[0]
    with opened(served) as session:  # this process believes that the server has it, and it has not
        strange = vision_models.pixels(served.target, 6)
        parts = ["t5", Picture(strange, lossless=True)]
        reader = session._reader.read(parts, True, 0)
        sent_pictures.SENT.section(session._connection.address, reader.pictures)
        session.prompt(parts)
        assert finished(session) == expected(served, session, strange)
    assert texts[0] == texts[1]


def test_shared_prefixes_are_those_of_the_same_picture(served: SimpleNamespace) -> None:
    same, other = (vision_models.pixels(served.target, number) for number in (7, 8))
    words = " ".join(f"t{5 + i % 50}" for i in range(150))
    for pixels in (same, same, other):
        with opened(served) as session:
            session.prompt([Picture(pixels, lossless=True), words])
            assert finished(session) == expected(served, session, pixels)


def test_what_a_session_refuses(served: SimpleNamespace, tmp_path: Path) -> None:
    with opened(served) as session:
        for parts, message in (
            ([np.zeros((8, 8)), "t5"], "uint8"),
            ([tmp_path / "none.png"], "cannot be read"),
            ([b"nonsense"], "cannot be decoded"),
            (["t5", 7], "a text or a picture"),
            ([np.zeros((28, 28, 3), np.uint8)] * 17, "may have 16 pictures"),
        ):
            with pytest.raises(EdgespecError, match=message):
                session.prompt(parts)
        session.prompt("t5 t6")
        assert len(finished(session)) == COUNT
