"""A draft whose tokenizer is not the target's drafts what both have, and reads the rest in its own tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_drafts
import tokenizers
from scripted_models import HashModel
from stubs import OWN, TargetWithTokenizer, serving
from tokenizers import decoders, models, pre_tokenizers

from edgespec import SamplingParams, Session
from edgespec.core.errors import EdgespecError
from edgespec.core.noise import MASKED
from edgespec.core.slots import CacheFull, Piece, SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.core.vocabulary_map import token_texts, vocabulary_map
from edgespec.engines.translated_engine import TranslatedEngine


def byte_level(*tokens: str, merges: Sequence[tuple[str, str]] = ()) -> Tokenizer:
    """A byte-level BPE of exactly these tokens, in this order."""
    core = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return Tokenizer(core)


TARGET = byte_level("a", "b", "c", "Ġ", "ab", "abc", "d", merges=[("a", "b"), ("ab", "c")])
DRAFT = byte_level("Ġ", "ab", "c", "b", "a", "x", merges=[("a", "b")])
MAP = vocabulary_map(TARGET, DRAFT, 8, 6)


def test_the_same_text_is_the_same_token() -> None:
    assert MAP.target_of.tolist() == [3, 4, 2, 1, 0, -1]


def test_a_token_that_the_draft_lacks_is_read_as_the_drafts_own() -> None:
    assert MAP.reads[TARGET.encode("abc")[0]] == (1, 2)
    assert MAP.reads[6] == (0,), "a text that the draft cannot write at all is read as its first token"
    assert MAP.reads[7] == (0,), "so is padding of the target's embeddings"


def test_a_sentence_pieces_space_is_a_space() -> None:
    core = tokenizers.Tokenizer(models.BPE({"▁the": 0, "<0x0A>": 1}, []))
    assert token_texts(core) == {0: b" the", 1: b"\n"}


def test_tokenizers_with_little_in_common_are_refused() -> None:
    other = byte_level(*(chr(0x2460 + i) for i in range(60)))
    with pytest.raises(EdgespecError, match="has 0 of the target's 7 tokens"):
        vocabulary_map(TARGET, other, 8, 60)


def test_a_draft_may_have_many_more_tokens_than_the_target() -> None:
    large = byte_level("ab", "c", "Ġ", *(chr(0x2460 + i) for i in range(60)), merges=[])
    assert vocabulary_map(TARGET, large, 8, 63).shared == 3


class Recorder:
    """A draft engine that keeps what it is run on, and answers with its draft token 2, then 5."""

    manifest: Any = None
    calibration: Any = None
    choices = 2
    vocabulary_size = 6
    vocabulary_hash = DRAFT.vocabulary_hash
    tokenizer_path = Path("unused")
    eyes = None

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.calls: list[tuple[Piece, Any, Any, Any]] = []

    def reset(self) -> None:
        self.calls.clear()

    def run(self, piece: Piece, noise: Any, noise_rows: Any, inverse: float, decide: Any = None) -> Any:
        self.calls.append((piece, noise, noise_rows, decide))
        return np.tile(np.array([2, 5], np.int32), (len(decide), 1)), np.zeros((len(decide), 2), np.float32)


def engine(capacity: int = 64) -> tuple[TranslatedEngine, Recorder]:
    recorder = Recorder(capacity)
    return TranslatedEngine(recorder, MAP, 8, Path("unused")), recorder  # type: ignore[arg-type]


def plan(slots: SlotMap, text: list[int]) -> Piece:
    return slots.plan(text, len(text), DraftTree(len(text)), [])


def test_a_token_that_is_several_of_the_drafts_takes_as_many_rows_positions_and_slots() -> None:
    translated, recorder = engine()
    slots = SlotMap(64)
    abc, b = TARGET.encode("abc")[0], TARGET.encode("b")[0]
    best, _ = translated.run(plan(slots, [abc, b]), None, None, 1.0, np.array([1], np.int32))
    piece, _, _, decide = recorder.calls[0]
    assert piece.tokens.tolist() == [1, 2, 3] and piece.positions.tolist() == [0, 1, 2]
    assert sorted(piece.slots.tolist()) == [0, 1, 2] and decide.tolist() == [2]
    assert (piece.among == np.tri(3, dtype=bool)).all()
    assert best.tolist() == [[2, 0]], "a draft token that the target lacks becomes some other"

    translated.run(plan(slots, [abc, b, b]), None, None, 1.0, np.array([0], np.int32))
    piece = recorder.calls[1][0]
    assert piece.positions.tolist() == [3]
    assert np.flatnonzero(piece.cached[0]).tolist() == [0, 1, 2]


def test_noise_is_that_of_the_targets_ids_and_tokens_that_it_lacks_are_masked() -> None:
    translated, recorder = engine()
    noise = np.arange(8, dtype=np.float32)[None]
    piece = plan(SlotMap(64), TARGET.encode("ab"))
    translated.run(piece, noise, np.zeros(1, np.int32), 1.0, np.array([0], np.int32))
    assert recorder.calls[0][1].tolist() == [[3, 4, 2, 1, 0, MASKED]]
    translated.run(piece, None, None, 1.0, np.array([0], np.int32))
    assert recorder.calls[1][1].tolist() == [[0, 0, 0, 0, 0, MASKED]], "greedy drafts what the target has"


def test_a_text_that_outgrows_the_draft_says_so() -> None:
    translated, _ = engine(capacity=3)
    abc = TARGET.encode("abc")[0]
    with pytest.raises(CacheFull):
        translated.run(plan(SlotMap(64), [abc, abc]), None, None, 1.0, np.array([0], np.int32))


def test_slots_of_rows_that_run_again_are_used_again() -> None:
    translated, recorder = engine(capacity=4)
    piece = plan(SlotMap(64), TARGET.encode("abc"))
    for _ in range(5):
        translated.run(piece, None, None, 1.0, np.array([0], np.int32))
    assert max(recorder.calls[-1][0].slots.tolist()) < 4


@pytest.fixture
def other_draft(tmp_path: Path, quick: None) -> Path:
    """The engine of a random draft whose vocabulary is some of the target's, in another order."""
    import edgespec

    tokens = sorted(OWN.core.get_vocab())
    random.Random(3).shuffle(tokens)
    tiny_drafts.save_family_member(tmp_path / "model")
    byte_level(*tokens[: tiny_drafts.VOCABULARY]).core.save(str(tmp_path / "model" / "tokenizer.json"))
    return edgespec.compile(tmp_path / "model", tmp_path / "engine", runtime="onnxruntime", progress=False)


@pytest.mark.needs_torch
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_mode_gives_the_text_of_cloud(
    other_draft: Path, temperature: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = {}
    with serving(TargetWithTokenizer(HashModel())) as server:
        for mode in ("cloud", "sync", "preempt", "auto"):
            params = SamplingParams(max_new_tokens=24, temperature=temperature, seed=5)
            with Session(("127.0.0.1", server.port), other_draft, params, mode=mode) as session:
                session.prompt("def main():\n    return 0\n")
                list(session)
                texts[mode] = session.tokens
                if mode in ("sync", "preempt"):
                    assert session.statistics.sent > 0
    assert all(text == texts["cloud"] for text in texts.values())
