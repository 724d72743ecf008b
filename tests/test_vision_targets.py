"""Vision-language targets: logits and texts are those of transformers' own forward over the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import vision_models  # noqa: E402
from vision_models import FAMILIES  # noqa: E402

from edgespec.core.errors import EdgespecError  # noqa: E402
from edgespec.core.params import SamplingParams  # noqa: E402
from edgespec.core.pictures import PictureSpan, cut_picture  # noqa: E402
from edgespec.core.server_options import ServerOptions  # noqa: E402
from edgespec.core.slots import SLOT_BUCKET, SlotMap  # noqa: E402
from edgespec.core.tree import ROOT, DraftTree  # noqa: E402
from edgespec.model.kv_pages import prefix_keys  # noqa: E402
from edgespec.model.picture_check import check_picture  # noqa: E402
from edgespec.model.target import Target  # noqa: E402
from edgespec.model.target_engine import ForwardRequest, PlacedPicture  # noqa: E402
from edgespec.verifying.verifier import Verifier, VerifierLimits  # noqa: E402

FIRST, COUNT = 6, 12


def load(folder: Path, family: str, dtype: str = "float64", **options: Any) -> Target:
    vision_models.save(vision_models.tiny(family, getattr(torch, dtype)), folder)
    return Target.load(folder, dtype=dtype, device="cpu", kv_memory="8MiB", **options)


class Text:
    """A text with two pictures at a target, without a server."""

    def __init__(self, target: Target, alike: bool = False) -> None:
        self.target = target
        random = np.random.default_rng(4)
        form = target.picture_format
        assert form is not None
        self.pixels = [vision_models.pixels(target, 0), vision_models.pixels(target, int(not alike), 56, 56)]
        self.tokens = random.integers(5, 280, FIRST).tolist()
        self.pictures = []
        for number, picture in enumerate(self.pixels):
            rows = form.rows_of(*picture.shape[:2])
            span = PictureSpan(len(self.tokens), rows, *picture.shape[:2], bytes([number]) * 32)
            self.pictures.append(PlacedPicture(span, target.encode_picture(picture)))
            self.tokens += [form.placeholder] * rows + random.integers(5, 280, 3).tolist()
        self.prompt = list(self.tokens)
        self.slots = SlotMap(512)
        self.cache = target.open_cache(512)

    def run(self, length: int, tree: DraftTree, nodes: list[int], params: SamplingParams) -> list[int]:
        piece = self.slots.plan(self.tokens, length, tree, nodes)
        first = len(piece) - len(nodes) - 1
        decide = np.arange(first, len(piece)) if length == len(self.tokens) else np.zeros(0, np.int64)
        request = ForwardRequest(self.cache, piece, decide, params, params.seed or 0, pictures=self.pictures)
        tokens: list[int] = self.target.forward_batch([request])[0].tokens.tolist()
        return tokens

    def generate(self, params: SamplingParams, chunk: int, right: list[int]) -> list[int]:
        """Chunks of the prompt, then trees of right and wrong drafts."""
        for end in range(chunk, len(self.tokens), chunk):
            cut = cut_picture([picture.span for picture in self.pictures], end)
            length = cut.end if cut is not None and self.target.whole_pictures else end
            if self.slots.cached_length < length < len(self.tokens):
                self.run(length, DraftTree(length), [], params)
        random, number = np.random.default_rng(5), 0
        while len(new := self.tokens[len(self.prompt) :]) < COUNT:
            tree, nodes, at = DraftTree(len(self.tokens)), [], ROOT
            for depth in range(int(random.integers(0, 4))):
                true = right[len(new) + depth] if len(new) + depth < len(right) else 0
                for token in {true, int(random.integers(5, 280))}:
                    number += 1
                    tree.add(number, at, token, 0.5)
                    nodes.append(number)
                at = next(node for node in nodes if tree[node].parent == at and tree[node].token == true)
            decided = dict(zip([ROOT, *nodes], self.run(len(self.tokens), tree, nodes, params), strict=True))
            path, at = [], ROOT
            while True:
                self.tokens.append(decided[at])
                child = tree.child(at, decided[at])
                if child is None:
                    break
                path.append(child)
                at = child
            tree.commit([decided[ROOT], *(decided[node] for node in path)])
            self.slots.commit(path, tree)
        return self.tokens[len(self.prompt) :][:COUNT]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_with_two_pictures_is_what_transformers_generates(
    tmp_path: Path, family: str, temperature: float
) -> None:
    target = load(tmp_path, family)
    text = Text(target)
    params = SamplingParams(temperature=temperature, seed=9)
    expected = vision_models.own_text(target, text.prompt, text.pixels, COUNT, temperature, 9)
    assert text.generate(params, 5, expected) == expected
    assert Text(target).generate(params, 100, expected) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_matter(tmp_path: Path, family: str) -> None:
    """Texts of random models say little: what a picture's rows leave behind must differ."""
    target = load(tmp_path, family)
    one, other = Text(target), Text(target, alike=True)
    logits = [
        target.runner.logits(
            [
                ForwardRequest(
                    text.cache,
                    text.slots.plan(text.tokens, len(text.tokens), DraftTree(len(text.tokens)), []),
                    np.array([len(text.tokens) - 1]),
                    SamplingParams(),
                    0,
                    pictures=text.pictures,
                )
            ]
        )
        for text in (one, other)
    ]
    assert float((logits[0] - logits[1]).abs().max() / logits[0].std()) > 1e-3


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "llava"])
def test_the_native_decoder_serves_the_language_half(tmp_path: Path, family: str) -> None:
    target = load(tmp_path, family, "float32")
    assert target.runner.decoder is not None
    text = Text(target)
    expected = vision_models.own_text(target, text.prompt, text.pixels, COUNT)
    assert text.generate(SamplingParams(temperature=0.0), 7, expected) == expected


@pytest.mark.parametrize("family", ["qwen2_vl", "llava"])
def test_deterministic_forwards_read_pictures_too(tmp_path: Path, family: str) -> None:
    target = load(tmp_path, family, deterministic=True)
    text = Text(target)
    expected = vision_models.own_text(target, text.prompt, text.pixels, COUNT)
    assert text.generate(SamplingParams(temperature=0.0), 7, expected) == expected


@pytest.mark.parametrize(
    ("family", "name", "wrong"), [("qwen2_vl", "rotary_cell", 14), ("gemma3", "mutual", False)]
)
def test_the_check_at_load_finds_an_encoder_that_reads_pictures_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, name: str, wrong: object
) -> None:
    target = load(tmp_path, family)
    vision = target.model.vision
    assert vision is not None
    check_picture(target.runner, vision)
    if family == "gemma3":
        monkeypatch.setattr(vision, "own_arguments", lambda is_picture: {"token_type_ids": is_picture})
    monkeypatch.setattr(vision, name, wrong)
    with pytest.raises(EdgespecError, match="a text with a picture otherwise"):
        check_picture(target.runner, vision)


def test_a_picture_whose_rows_see_one_another_runs_whole(tmp_path: Path) -> None:
    verifier = Verifier(list(range(40)), 8, ServerOptions(), VerifierLimits(512))
    verifier.whole_pictures = [PictureSpan(10, 12, 28, 28, bytes(32))]
    ends = [verifier.plan(rows).piece.positions[-1] + 1 for rows in (5, 7, 4, 10)]
    assert ends == [5, 10, 22, 32]
    with pytest.raises(EdgespecError, match="--deterministic"):
        load(tmp_path, "gemma3", deterministic=True)


def test_equal_placeholders_share_no_page_where_the_pictures_differ() -> None:
    tokens = [7] * (3 * SLOT_BUCKET + 1)
    spans = [PictureSpan(SLOT_BUCKET + 3, 5, 28, 140, bytes([number]) * 32) for number in range(2)]
    plain, one, other = prefix_keys(tokens), prefix_keys(tokens, spans[:1]), prefix_keys(tokens, spans[1:])
    assert plain[0] == one[0] == other[0]
    assert len({*plain[1:], *one[1:], *other[1:]}) == 6
    assert one == prefix_keys(tokens, spans[:1])


def test_a_family_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    import transformers

    config = transformers.PaliGemmaConfig(vision_config={"model_type": "siglip_vision_model"})
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EdgespecError, match=r"paligemma.*prompt token"):
        Target.load(tmp_path, device="cpu")
