"""A draft that sees: its graphs compute what transformers computes, and a session drafts with what it sees."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxscript")

import vision_models  # noqa: E402
from tensorrt_rig import Device  # noqa: E402
from tiny_drafts import made_once  # noqa: E402

import edgespec  # noqa: E402
from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.core.pictures import PictureSpan  # noqa: E402
from edgespec.core.slots import SlotMap  # noqa: E402
from edgespec.core.tree import ROOT, DraftTree  # noqa: E402
from edgespec.drafting.draft_pictures import DraftPictures  # noqa: E402
from edgespec.edge.picture import Picture  # noqa: E402
from edgespec.edge.session import Session  # noqa: E402
from edgespec.engines import check, plan_stage  # noqa: E402
from edgespec.engines.draft_engine import DraftEngine, load_draft  # noqa: E402
from edgespec.engines.manifest import EngineManifest  # noqa: E402
from edgespec.engines.parity import score_difference  # noqa: E402
from edgespec.model.vision_families import GridEncoder, find_encoder  # noqa: E402
from edgespec.tensorrt_engines.plan import PlanTarget  # noqa: E402
from edgespec.tensorrt_engines.tensorrt_eyes import TensorRTEyes  # noqa: E402

HEIGHT, WIDTH = 56, 84
COUNT = 12


def make(folder: Path) -> None:
    vision_models.save(vision_models.tiny("qwen2_vl", torch.float32), folder / "model")
    edgespec.compile(
        folder / "model",
        folder / "engine",
        runtime="onnxruntime",
        picture_size=f"{WIDTH}x{HEIGHT}",
        progress=False,
    )


@pytest.fixture(scope="module")
def folder() -> Path:
    """The `model` and the `engine` of a draft that sees."""
    return made_once("a draft that sees", make)


@pytest.fixture
def engine(folder: Path) -> DraftEngine:
    return load_draft(folder / "engine")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> GridEncoder:
    """transformers' own."""
    encoder = find_encoder(vision_models.tiny("qwen2_vl", torch.float32), folder / "model")
    assert isinstance(encoder, GridEncoder)
    return encoder


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def own_logits(
    encoder: GridEncoder, chain: list[int], pictures: list[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """[V] behind a text, by transformers' own forward."""
    inputs = [encoder.inputs(one) for one in pictures]
    ids = torch.tensor([chain])
    with torch.inference_mode():
        found = encoder.module(
            input_ids=ids,
            use_cache=False,
            **{name: torch.cat([one[name] for one in inputs]) for name in inputs[0]},
            **encoder.own_arguments((ids == vision_models.PLACEHOLDER).long()),
        )
    logits: NDArray[np.float32] = found.logits[0, -1].numpy()
    return logits


def test_the_encoders_rows_are_those_of_transformers(engine: DraftEngine, encoder: GridEncoder) -> None:
    assert engine.eyes is not None
    for number in range(3):
        rows = engine.eyes.encode(picture(number))
        assert rows.shape == (6, 64)
        np.testing.assert_allclose(rows, encoder.encode(picture(number)).rows.numpy(), atol=1e-5)


def test_rows_behind_pictures_have_the_models_own_logits(engine: DraftEngine, encoder: GridEncoder) -> None:
    """Two pictures that the target reads in nine rows each and the draft in six, runs that cut them, and a tree."""
    large = [picture(number, 84, 84) for number in range(2)]
    seen = [
        np.asarray(Image.fromarray(one).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for one in large
    ]
    text = [5, 6, 7, *[vision_models.PLACEHOLDER] * 9, 8, 9, *[vision_models.PLACEHOLDER] * 9, 10, 11, 12]
    pictures = DraftPictures(engine.eyes)
    spans = [PictureSpan(first, 9, 84, 84, bytes([first]) * 32) for first in (3, 14)]
    pictures.take(spans, [png(one) for one in large])
    while pictures.unread:
        pictures.look()
    read = list(pictures.readable(text))
    assert read == [
        5,
        6,
        7,
        *[vision_models.PLACEHOLDER] * 6,
        8,
        9,
        *[vision_models.PLACEHOLDER] * 6,
        10,
        11,
        12,
    ]
    tree, slots = DraftTree(len(text)), SlotMap(engine.capacity)
    for node, parent, token in ((1, ROOT, 20), (2, ROOT, 21), (3, 2, 22)):
        tree.add(node, parent, token, 0.5)
    for end in (6, 14):
        engine.run(pictures.sighted(slots.plan(read, end, tree, [])), None, None, 1.0)
    piece = slots.plan(read, len(read), tree, [1, 2, 3], pictures.left_out)
    decide = np.arange(len(piece) - 4, len(piece), dtype=np.int32)
    expected = np.stack(
        [own_logits(encoder, [*read, *tree.path_tokens(node)], seen) for node in (ROOT, 1, 2, 3)]
    )
    found = engine.run(pictures.sighted(piece), None, None, 1.0, decide)
    assert score_difference(expected, *found, 1e-4) is None
    assert score_difference(expected, *engine.run(piece, None, None, 1.0, decide), 1e-2) is not None


def test_a_plan_of_the_encoder_gives_the_same_rows_and_the_check_says_so(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: DraftEngine,
) -> None:
    copy = shutil.copytree(folder / "engine", tmp_path / "engine")
    replace(EngineManifest.read(copy), runtime="tensorrt").save(copy)
    device = Device(monkeypatch).engine(copy, vision_file="vision.onnx")
    assert engine.eyes is not None and device.eyes is not None
    for number in (1, 2, 1):
        np.testing.assert_array_equal(
            device.eyes.encode(picture(number)), engine.eyes.encode(picture(number))
        )
    tree = DraftTree(300)
    pictures = DraftPictures(device.eyes)
    text = [5, *[vision_models.PLACEHOLDER] * 6, *range(10, 160)]  # more rows than a plan takes at once
    pictures.take([PictureSpan(1, 6, HEIGHT, WIDTH, bytes(32))], [png(picture(3))])
    pictures.look()
    decide = np.array([len(text) - 1], dtype=np.int32)
    results = []
    for one in (device, engine):
        piece = pictures.sighted(SlotMap(one.capacity).plan(text, len(text), tree, []))
        results.append(one.run(piece, None, None, 1.0, decide))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)

    monkeypatch.setattr(check, "TEXTS", 1)
    assert check.main(copy) == 0
    monkeypatch.setattr(TensorRTEyes, "encode", lambda eyes, pixels: np.zeros((6, 64), np.float32))
    assert check.main(copy) == 1
    assert capsys.readouterr().out.count("vision encoder makes of a picture") == 2


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
@pytest.mark.timeout(600)
def test_tensorrt_rtx_builds_the_plans_of_both_graphs(folder: Path, tmp_path: Path) -> None:
    target = PlanTarget("tensorrt-rtx", "8.6", None)
    built = plan_stage.add_plan(folder / "engine", tmp_path / "engine", target, False, lambda stage: None)
    (plan,) = EngineManifest.load(built).plans
    assert (plan.file, plan.vision_file) == ("tensorrt-rtx-sm86.plan", "tensorrt-rtx-sm86-vision.plan")
    assert all((built / file).stat().st_size > 10_000 for file in plan.files)


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


def test_an_engine_that_sees_needs_no_torch(folder: Path) -> None:
    program = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "onnx")))
import numpy
from edgespec.engines.draft_engine import load_draft
print(load_draft(sys.argv[1]).eyes.encode(numpy.zeros((56, 84, 3), numpy.uint8)).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "engine")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(6, 64)\n"


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": -84},
        {"cell": 0},
        {"cell": 27},
        {"height": "56"},
        {"height": 56.0},
        {"features": 1 << 25},
        {"features": True},
        {"height": 28 * 1000, "width": 28 * 1000},
        {"height": 1, "width": 900, "cell": 1},
        {"layout": "bgr8-hwc"},
        {"surplus": 1},
        [],
        7,
    ],
)
def test_a_manifest_with_impossible_eyes_is_refused(folder: Path, tmp_path: Path, change: Any) -> None:
    copy = shutil.copytree(folder / "engine", tmp_path / "engine")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["eyes"] = {**manifest["eyes"], **change} if isinstance(change, dict) else change
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EdgespecError, match=r"manifest\.json is damaged: build it again with `edgespec comp"):
        load_draft(copy)


def test_an_encoder_of_another_size_than_the_manifests_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "engine", tmp_path / "engine")
    manifest = EngineManifest.read(copy)
    assert manifest.eyes is not None
    replace(manifest, eyes=replace(manifest.eyes, height=84)).save(copy)
    with pytest.raises(EdgespecError, match=r"does not take the pictures .* --picture-size 84x84 --force`"):
        load_draft(copy)
    (copy / "vision.onnx").unlink()
    manifest.save(copy)
    with pytest.raises(EdgespecError, match=r"vision\.onnx is missing"):
        load_draft(copy)
