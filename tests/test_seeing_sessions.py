"""Sessions with a draft that sees: the target's text in every mode, and what eyes gain, and when they close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.needs_torch
pytest.importorskip("torch")
pytest.importorskip("PIL.Image")
pytest.importorskip("onnxscript")

import vision_models  # noqa: E402
from seeing_drafts import compiled, picture  # noqa: E402

from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.edge.picture import Picture  # noqa: E402
from edgespec.edge.session import Session  # noqa: E402
from edgespec.engines.draft_engine import DraftEngine, load_draft  # noqa: E402

COUNT = 12


@pytest.fixture(scope="module")
def folder() -> Path:
    return compiled()


@pytest.fixture
def engine(folder: Path) -> DraftEngine:
    return load_draft(folder / "engine")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The draft's own model as the target, in float64: it always agrees with a draft that sees as it does."""
    with vision_models.served(tmp_path_factory.mktemp("target")) as one:
        yield one


def drafted(served: SimpleNamespace, mode: str, engine: DraftEngine | None, temperature: float) -> Session:
    """A finished text behind two pictures, and one more turn with a third."""
    params = SamplingParams(temperature=temperature, max_new_tokens=COUNT, seed=9, ignore_eos=True)
    session = Session(("127.0.0.1", served.port), engine, params, mode=mode, tokenizer=served.tokenizer)
    with session:
        parts = [Picture(picture(number), lossless=True) for number in range(3)]
        session.prompt(["t5", parts[0], "t6", parts[1], "t7"])
        list(session)
        session.append(["t8", parts[2], "t9"])
        list(session)
    return session


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_mode_writes_the_targets_text_and_eyes_gain_acceptance(
    served: SimpleNamespace, folder: Path, engine: DraftEngine, temperature: float
) -> None:
    blind = load_draft(folder / "engine")
    blind.eyes = None
    right = drafted(served, "cloud", None, temperature).all_tokens
    for mode in ("preempt", "auto"):
        assert drafted(served, mode, engine, temperature).all_tokens == right
    accepted = {}
    for name, draft in (("seeing", engine), ("blind", blind)):
        session = drafted(served, "sync", draft, temperature)
        assert session.all_tokens == right
        accepted[name] = session.statistics.accepted
    assert accepted["seeing"] > accepted["blind"]


class Misled:
    """The engine, whose choices are never the target's; it counts how often it looks."""

    def __init__(self, engine: DraftEngine) -> None:
        self._engine, self.eyes, self.looks = engine, self, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def shape(self) -> Any:
        assert self._engine.eyes is not None
        return self._engine.eyes.shape

    def encode(self, pixels: NDArray[np.uint8]) -> Any:
        assert self._engine.eyes is not None
        self.looks += 1
        return self._engine.eyes.encode(pixels)

    def run(self, *arguments: Any) -> Any:
        tokens, scores = self._engine.run(*arguments)
        return (tokens + 1) % self._engine.vocabulary_size, scores


def test_auto_lets_a_draft_rest_that_sees_and_is_never_right_and_it_looks_no_more(
    served: SimpleNamespace, engine: DraftEngine
) -> None:
    draft = Misled(engine)
    params = SamplingParams(max_new_tokens=10, seed=9, ignore_eos=True)
    address = ("127.0.0.1", served.port)
    with Session(address, draft, params, mode="auto", tokenizer=served.tokenizer) as session:  # type: ignore[arg-type]
        session.prompt(["t5", Picture(picture(0), lossless=True), "t6"])
        list(session)
        while session.policy.depth:  # type: ignore[attr-defined]
            assert len(session.all_tokens) < 400
            session.append("t8")
            list(session)
        assert draft.looks == 1
        session.append(["t8", Picture(picture(1), lossless=True), "t9"])
        assert sum(len(step.tokens) for step in session) == 10
        assert draft.looks == 1
