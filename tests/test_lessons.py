"""What a step of training learns about where the vocabulary is large: some tokens, and none is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainable import SIZE, save_target

from edgespec.train import lessons
from edgespec.train.draft import DraftStage, draft_logits
from edgespec.train.draft_model import begin_draft
from edgespec.train.lessons import Lessons
from edgespec.train.packing import Batches, Stream
from edgespec.train.teacher import Lesson, Teacher

VOCABULARY = SIZE["vocab_size"]


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    """Of a target whose vocabulary counts as large."""
    monkeypatch.setattr(lessons, "CLASSES", 64)
    monkeypatch.setattr(lessons, "FREQUENT", 16)
    return Teacher(str(save_target(tmp_path / "target")), "cpu", "float32")


def begun(teacher: Teacher, folder: Path) -> tuple[Batches, Lessons]:
    tokens = np.random.default_rng(0).zipf(1.5, 4000).clip(1, VOCABULARY) - 1
    batches = Batches(Stream.of(tokens.astype(np.int32)), 128, 0)
    return batches, Lessons(teacher, batches, (), folder / "hidden.bin", 1 << 20, 0)


def test_a_step_learns_about_the_batchs_tokens_the_frequent_ones_and_others(
    teacher: Teacher, tmp_path: Path
) -> None:
    batches, drawn = begun(teacher, tmp_path)
    taught = [drawn.draw(32) for _ in range(80)]
    frequent = set(batches.frequent(16, VOCABULARY).tolist())
    assert frequent > set(range(8))
    seen: set[int] = set()
    for one in taught:
        assert one.classes is not None
        classes = one.classes.tolist()
        assert classes == sorted(set(classes)) and len(classes) == 64
        assert set(classes) >= frequent | set(one.batch.flatten().tolist())
        seen |= set(classes)
    assert len(seen) > 0.9 * VOCABULARY


def test_steps_have_few_shapes_however_many_tokens_of_a_batch_are_learnt(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "ROWS_APART", 16)
    random = np.random.default_rng(0)
    learnt = random.random(4000) < np.repeat(random.random(40), 100)
    batches = Batches(Stream(np.arange(4000, dtype=np.int32) % VOCABULARY, learnt), 128, 0)
    drawn = Lessons(teacher, batches, (), tmp_path / "hidden.bin", 1 << 20, 0)
    taught = [drawn.draw(32) for _ in range(60)]
    for one in taught:
        wanted = [place for place in one.places.tolist() if place % 32 < 31]
        assert len(wanted) == len(one.places) and len(one.final) == len(one.places)
    assert {len(one.places) % 16 for one in taught if len(one.places) > 16} == {0}
    assert len({len(one.places) for one in taught}) > 1


def test_a_small_vocabulary_is_learnt_whole(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "CLASSES", VOCABULARY // 2 + 1)
    assert begun(teacher, tmp_path)[1].draw(32).classes is None


def test_logits_of_some_tokens_are_those_among_all(teacher: Teacher) -> None:
    rows, classes = torch.randn(5, teacher.width), torch.tensor([3, 40, 319])
    torch.testing.assert_close(teacher.logits(rows, classes), teacher.logits(rows)[:, classes])


def test_the_target_runs_once_over_an_epoch_that_the_file_holds_and_again_for_longer_windows(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, drawn = begun(teacher, tmp_path)
    seen: list[torch.Size] = []
    hidden = teacher.hidden

    def watched(batch: torch.Tensor, layers: Sequence[int] = ()) -> Any:
        seen.append(batch.shape)
        return hidden(batch, layers)

    monkeypatch.setattr(teacher, "hidden", watched)
    for length, rows in ((32, 4), (64, 2)):
        seen.clear()
        for _ in range(lessons.USES_A_BATCH * 60):
            drawn.draw(length)
        assert seen == [torch.Size((rows, length))] * batches.in_an_epoch


def test_the_target_runs_on_where_the_file_holds_less_than_an_epoch(teacher: Teacher, tmp_path: Path) -> None:
    tokens = np.arange(4000, dtype=np.int32) % VOCABULARY
    batches = Batches(Stream.of(tokens), 128, 0)
    drawn = Lessons(teacher, batches, (), tmp_path / "hidden.bin", 100_000, 0)
    for _ in range(lessons.USES_A_BATCH * 60):
        drawn.draw(32)
    epoch, _, cursor = batches.state()
    assert (epoch - 1) * batches.in_an_epoch + cursor // 4 == 60


def test_a_draft_that_learns_about_some_tokens_at_a_time_comes_nearer_to_the_target_over_all(
    teacher: Teacher, tmp_path: Path
) -> None:
    batches, drawn = begun(teacher, tmp_path)
    draft = begin_draft(teacher, "1x48", "random", 256, 0)
    stage = DraftStage(draft.model, teacher, batches, drawn, 32, rate_share=1.0)
    batch = torch.from_numpy(batches.next(32)[0])

    def divergence() -> float:
        with torch.no_grad():
            lesson = Lesson.of(teacher.logits(teacher.hidden(batch)[0].flatten(0, 1)))
            return float(lesson.divergence(draft_logits(draft.model, batch, torch.arange(batch.numel()))))

    before = divergence()
    for number in range(60):
        stage.step(number / 60)
    assert divergence() < 0.92 * before
