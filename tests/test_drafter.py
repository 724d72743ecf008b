"""The drafter: what a run finds does not depend on what ran before it."""

import io
from typing import Any

import numpy as np
import pytest
from scripted_models import VOCABULARY, HashModel
from stubs import StubDraft

from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import Piece
from edgespec.core.text_biases import TextBiases
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop, Found
from edgespec.drafting.modes import policy
from edgespec.drafting.policies import Sync
from edgespec.tensorrt_engines.draft_shape import EyesShape

SCRIPTED = HashModel()


def drafting() -> Drafter:
    return Drafter(StubDraft(SCRIPTED), 0.0, 0, VOCABULARY)  # type: ignore[arg-type]


def one(drafter: Drafter, text: list[int], tree: DraftTree, node: int) -> Found:
    return drafter.expand(text, tree, [node])[0]


def test_a_node_that_ran_as_an_ancestor_may_still_be_asked_for() -> None:
    drafter, text, tree = drafting(), [1, 2, 3], DraftTree(3)
    first = one(drafter, text, tree, ROOT).tokens[0]
    tree.add(1, ROOT, first)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    assert one(drafter, text, tree, 1).tokens == list(SCRIPTED.draft([*text, first])[0])
    assert one(drafter, text, tree, 2).tokens == list(SCRIPTED.draft([*text, first, 7])[0])


def test_so_may_one_that_became_the_end_of_the_text() -> None:
    drafter, text, tree = drafting(), [1, 2, 3], DraftTree(3)
    one(drafter, text, tree, ROOT)
    tree.add(1, ROOT, 5)
    tree.add(2, 1, 7)
    one(drafter, text, tree, 2)
    drafter.commit(tree.commit([5]), tree)
    assert one(drafter, [*text, 5], tree, ROOT).tokens == list(SCRIPTED.draft([*text, 5])[0])


class PaddedDraft(StubDraft):
    """Scores every id of a vocabulary of 12 by itself plus the noise; it has an embedding for each."""

    vocabulary_size = 12

    def run(
        self,
        piece: Piece,
        noise: Any,
        noise_rows: Any,
        inverse_temperature: float,
        decide: Any = None,
    ) -> Any:
        assert max(piece.tokens.tolist()) < self.vocabulary_size
        scores = np.tile(np.arange(12, dtype=np.float32), (len(decide), 1))
        if noise is not None:
            scores += noise[noise_rows[decide]]
        best = np.argsort(-scores, axis=1)[:, :2].astype(np.int32)
        return best, np.take_along_axis(scores, best, axis=1)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_ids_that_only_the_padded_draft_has_are_not_drafted(temperature: float) -> None:
    drafter = Drafter(PaddedDraft(SCRIPTED), temperature, 0, 7)  # type: ignore[arg-type]
    found = one(drafter, [1, 2, 3], DraftTree(3), ROOT)
    assert max(found.tokens) < 7
    assert np.isfinite(found.probabilities).all()


def test_ids_that_only_the_padded_target_has_are_not_fed_to_the_draft() -> None:
    drafter, text, tree = Drafter(PaddedDraft(SCRIPTED), 0.0, 0, 20), [1, 2, 15], DraftTree(3)  # type: ignore[arg-type]
    tree.add(1, ROOT, 19)
    assert one(drafter, text, tree, 1).tokens == [11, 10]


@pytest.mark.parametrize(
    ("params", "chain"),
    [
        ({}, [11, 11, 11]),
        ({"logit_bias": {11: -1.5, 13: 9.0}}, [10, 10, 10]),
        ({"presence_penalty": 1.5}, [11, 10, 11]),
        ({"frequency_penalty": 1.5}, [11, 10, 11]),
        ({"bad_words_ids": ((11, 11),)}, [11, 10, 11]),
        ({"stop_token_ids": (11,), "min_tokens": 2}, [10, 10, 11]),
    ],
)
def test_the_draft_is_biased_as_the_target_is(params: dict[str, Any], chain: list[int]) -> None:
    biases = TextBiases(SamplingParams(**params), params.get("stop_token_ids", ()))
    drafter = Drafter(PaddedDraft(SCRIPTED), 0.0, 0, 20, biases=biases)  # type: ignore[arg-type]
    loop = DraftingLoop(Sync(3))
    loop.begin([5, 11, 11], 0, 8)
    while drafter.run(loop) is not None:
        pass
    (block,) = loop.outgoing(0.0)
    assert isinstance(block, Block) and block.tokens == chain


class CountingEyes:
    """A vision encoder that makes two rows of a picture."""

    shape = EyesShape(14, 28, 14, 3)

    def __init__(self) -> None:
        self.looks = 0

    def encode(self, pixels: Any) -> Any:
        assert (pixels.shape, pixels.dtype) == ((14, 28, 3), np.uint8)
        self.looks += 1
        return np.ones((2, 3), np.float32)


def test_a_draft_that_rests_does_not_look_at_pictures() -> None:
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.new("RGB", (56, 56)).save(file, "PNG")
    for mode, looks in (("cloud", 0), ("sync", 1)):
        draft, eyes = StubDraft(SCRIPTED), CountingEyes()
        draft.eyes = eyes  # type: ignore[assignment]
        drafter = Drafter(draft, 0.0, 0, VOCABULARY)  # type: ignore[arg-type]
        drafter.pictures.take([PictureSpan(1, 4, 56, 56, bytes(32))], [file.getvalue()])
        loop = DraftingLoop(policy(mode))
        loop.begin([1, 9, 9, 9, 9, 2], 0, 8)
        while drafter.run(loop) is not None:
            pass
        assert eyes.looks == looks and bool(draft.runs) == bool(looks)
        assert bool(len(loop.tree)) == bool(looks)
