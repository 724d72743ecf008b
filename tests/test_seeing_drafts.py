"""A draft that sees: its graphs compute what transformers computes, its plans likewise, and what is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxscript")

import vision_models  # noqa: E402
from seeing_drafts import HEIGHT, WIDTH, compiled, picture  # noqa: E402
from tensorrt_rig import Device  # noqa: E402

from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.pictures import PictureSpan  # noqa: E402
from edgespec.core.slots import SlotMap  # noqa: E402
from edgespec.core.tree import ROOT, DraftTree  # noqa: E402
from edgespec.drafting.draft_pictures import DraftPictures  # noqa: E402
from edgespec.engines import check, plan_stage  # noqa: E402
from edgespec.engines.draft_engine import DraftEngine, load_draft  # noqa: E402
from edgespec.engines.manifest import EngineManifest  # noqa: E402
from edgespec.engines.parity import score_difference  # noqa: E402
from edgespec.model.vision_families import GridEncoder, find_encoder  # noqa: E402
from edgespec.tensorrt_engines.plan import PlanTarget  # noqa: E402
from edgespec.tensorrt_engines.tensorrt_eyes import TensorRTEyes  # noqa: E402


@pytest.fixture(scope="module")
def folder() -> Path:
    """The `model` and the `engine` of a draft that sees."""
    return compiled()


@pytest.fixture
def engine(folder: Path) -> DraftEngine:
    return load_draft(folder / "engine")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> GridEncoder:
    """transformers' own."""
    encoder = find_encoder(vision_models.tiny("qwen2_vl", torch.float32), folder / "model")
    assert isinstance(encoder, GridEncoder)
    return encoder


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
