"""The recipe: its pure parts, a smoke run on a sliver, and the committed pair against its own model card."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.whole_files import sha256_of
from edgespec.model.exits import ExitHeads, weights_sha256
from edgespec.model.target import Target
from edgespec.train import answers, corpus, data, figures, folders, measure, pair, recipe
from edgespec.train.card import earlier_draft, render, write_card
from edgespec.train.figures import FIGURES_FILE
from edgespec.train.packing import Batches, Stream, pack
from edgespec.train.report import reliability
from edgespec.train.run import Run
from edgespec.train.target import Shape
from edgespec.train.teacher import Lesson, Teacher

PAIR = Path(recipe.__file__).parents[1] / "pair"
TINY = Shape(layers=3, width=32, heads=2, key_value_heads=1, inner=48, context=64, vocabulary=512)
TINIER = Shape(layers=1, width=16, heads=2, key_value_heads=1, inner=24, context=64, vocabulary=512)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def card_figures() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAIR / FIGURES_FILE).read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def sliver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus: some modules of the standard library, one of them twice."""
    folder = tmp_path_factory.mktemp("corpus")
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-f]*.py"))[:50]
    for module in modules:
        (folder / module.name).write_bytes(module.read_bytes()[:4000])
    (folder / "twin.py").write_bytes((folder / modules[0].name).read_bytes())
    return folder


# The corpus and its tokens


def test_the_splits_share_no_text_and_depend_on_paths_alone(sliver: Path) -> None:
    texts = corpus.collect(sliver)
    train, held_out = ({document.text for document in split} for split in (texts.train, texts.held_out))
    assert not train & held_out
    assert len(train) + len(held_out) == len(list(sliver.iterdir())) - 1  # one of them is there twice
    assert all(data.is_held_out(document.path) for document in texts.held_out)
    assert not any(data.is_held_out(document.path) for document in texts.train)
    assert corpus.collect(sliver) == texts


def test_a_corpus_that_is_missing_or_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="there is no data in"):
        corpus.collect(tmp_path / "nowhere")
    with pytest.raises(EdgespecError, match="too few Python files"):
        corpus.collect(tmp_path)


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_the_bundled_tokenizer_gives_any_text_back(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(PAIR / "target" / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_documents_are_packed_end_to_end_and_an_epoch_sees_every_window_once() -> None:
    tokenizer = Tokenizer.from_file(str(PAIR / "target" / "tokenizer.json"))
    stream = pack(tokenizer, ["import os", "x = 1\n"])
    assert stream[-1] == 0 and (stream == 0).sum() == 2
    assert tokenizer.decode(list(stream)) == "import osx = 1\n"

    numbers = np.arange(1000, dtype=np.int32)
    batches = Batches(Stream.of(numbers), tokens=64, seed=1)
    seen = np.concatenate([batches.next(16)[0].reshape(-1) for _ in range(15)])
    assert len(np.unique(seen)) == len(seen) == 15 * 64


def test_windows_hold_rows_from_their_prompts_on_and_cut_only_rows_longer_than_they_are() -> None:
    lengths = [5, 9, 12, 40, 7, 11, 6, 16, 10, 8, 13] * 3
    learnt = np.concatenate([np.arange(length) >= 3 for length in lengths])
    ends = np.cumsum(lengths)
    numbers = np.arange(len(learnt), dtype=np.int32)
    batches = Batches(Stream(numbers, learnt), tokens=16, seed=1)
    for _ in range(3):
        firsts = {int(batches.next(16)[0][0, 0])}
        firsts |= {int(batches.next(16)[0][0, 0]) for _ in range(1, batches.in_an_epoch)}
        seen = {start + place for start in firsts for place in range(16)}
        for end, length in zip(ends.tolist(), lengths, strict=True):
            row = set(range(end - length, end))
            if end - length >= 16 and end + 16 <= len(learnt):
                assert row <= seen
                assert length > 16 or any(start <= end - length and end <= start + 16 for start in firsts)


def test_batches_go_on_where_they_were(sliver: Path) -> None:
    numbers = np.arange(5000, dtype=np.int32)
    first, second = (Batches(Stream.of(numbers), tokens=64, seed=1) for _ in range(2))
    for _ in range(100):
        first.next(32)
    second.restore(first.state())
    np.testing.assert_array_equal(first.next(32)[0], second.next(32)[0])


# The recipe


def test_a_stage_that_fails_leaves_no_folder_and_a_strange_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folders.whole_folder(tmp_path / "target"):
        raise RuntimeError
    assert not (tmp_path / "target").exists()
    with (
        pytest.raises(EdgespecError, match="interrupted: the same"),
        folders.whole_folder(tmp_path / "target"),
    ):
        raise KeyboardInterrupt
    with (
        pytest.raises(EdgespecError, match=r"the disk of .* is full: free some space"),
        folders.whole_folder(tmp_path / "target") as work,
    ):
        (work / "full").symlink_to("/dev/full")
        (work / "full").write_bytes(b"more")
    (tmp_path / "mine").mkdir()
    with pytest.raises(EdgespecError, match="is not this recipe's"), folders.whole_folder(tmp_path / "mine"):
        pass


def test_a_work_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    with folders.whole_folder(tmp_path / "draft") as work:
        with (
            pytest.raises(EdgespecError, match=r"another run works in .*draft\.unfinished: wait for its end"),
            folders.whole_folder(tmp_path / "draft"),
        ):
            pass
        assert work.is_dir()
    assert list((tmp_path / "draft").iterdir()) == []


def test_a_smoke_run_of_the_whole_recipe_leaves_a_pair_that_loads_and_a_card(
    sliver: Path, tmp_path: Path
) -> None:
    run = Run(
        corpus=sliver, max_steps=3, quiet=True, measured=4, new_tokens=12, batch_tokens=256, device="cpu"
    )
    pair.make_target(tmp_path / "target", run, TINY)
    recipe.make_draft(tmp_path / "draft", str(tmp_path / "target"), run, TINIER)
    recipe.make_exits(tmp_path / "exits", str(tmp_path / "target"), run, "1,2", 4)

    measured = write_card(tmp_path, run)
    assert json.loads((tmp_path / FIGURES_FILE).read_text()) == measured
    assert measured["target"]["training"]["steps"] == measured["exits"]["training"]["steps"] == 3
    assert sorted(measured["exits"]["agreement"]) == ["1", "2"]
    assert (
        f"{measured['draft']['agreement']['own']['0.8']['rate']:.3f}" in (tmp_path / "README.md").read_text()
    )
    assert measured["earlier_draft"] is None
    assert not list(tmp_path.rglob("*.unfinished")) and not list(tmp_path.rglob("*.pt"))
    assert ExitHeads.load(tmp_path / "exits").target_sha256 == weights_sha256(tmp_path / "target")
    assert (tmp_path / "draft" / "tokenizer.json").read_bytes() == (
        tmp_path / "target" / "tokenizer.json"
    ).read_bytes()


def test_a_lesson_measures_the_kl_divergence_and_is_zero_for_the_teacher_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(5, 3, 40, generator=generator) for _ in range(2))
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher), torch.distributions.Categorical(logits=student)
    )
    assert float(Lesson.of(teacher).divergence(student)) == pytest.approx(float(divergence.mean()), rel=1e-5)
    assert float(Lesson.of(teacher).divergence(teacher)) == pytest.approx(0.0, abs=1e-6)


def test_acceptance_by_depth_counts_chains_that_were_right_so_far() -> None:
    right = np.array([1, 1, 0, 1, 1, 1, 0, 1], dtype=bool)[:, None]
    sight = measure.Sight(np.zeros(8), right, (4, 4))
    assert sight.by_depth(3) == pytest.approx([6 / 8, 2 / 4, 0])  # chains begin at every place


# The committed pair


def test_the_pair_is_the_one_that_its_card_describes(card_figures: dict[str, Any]) -> None:
    for name, file in card_figures["files"].items():
        assert (PAIR / name).stat().st_size == file["bytes"], name
        assert sha256_of(PAIR / name) == file["sha256"], name
    files = [path for path in PAIR.rglob("*") if path.is_file() and PAIR / "robot" not in path.parents]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert {path.relative_to(PAIR).as_posix() for path in weights} <= set(card_figures["files"])
    assert sum(path.stat().st_size for path in files) <= 40_000_000
    assert (PAIR / "README.md").read_text(encoding="utf-8") == render(card_figures)


def test_a_card_keeps_the_figures_of_the_draft_whose_place_a_better_one_takes(
    card_figures: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / FIGURES_FILE).write_text(json.dumps(card_figures))
    assert earlier_draft(tmp_path / FIGURES_FILE, card_figures) == card_figures["earlier_draft"], (
        "the same draft"
    )
    longer = {"draft": {"training": {"minutes": 80.0}}}
    kept = earlier_draft(tmp_path / FIGURES_FILE, longer)
    assert kept is not None and kept["training"] == card_figures["draft"]["training"]
    assert kept["rates"]["0.8"] == card_figures["draft"]["agreement"]["own"]["0.8"]["rate"]
    assert earlier_draft(tmp_path / "none.json", longer) is None


def test_the_pair_is_a_fair_test_bed(card_figures: dict[str, Any]) -> None:
    config = json.loads((PAIR / "target" / "config.json").read_text())
    assert config["max_position_embeddings"] >= 2048
    assert card_figures["work_ratio"] >= 15
    right = {t: cell["rate"] for t, cell in card_figures["draft"]["agreement"]["own"].items()}
    assert 0.74 <= right["0.8"] <= right["0.0"] <= 0.95 and right["0.0"] >= 0.85
    assert len(card_figures["exits"]["layers"]) in (3, 4)
    for layer, agreement in card_figures["exits"]["agreement"].items():
        assert agreement["own"]["0.8"]["fifths"][-1] >= 0.90, layer
    for guesser in (card_figures["draft"]["agreement"], *card_figures["exits"]["agreement"].values()):
        assert all(cell["calibration_error"] < 0.05 for cell in guesser["own"].values())


@pytest.mark.timeout(400)
def test_the_pair_does_what_its_card_says(card_figures: dict[str, Any], tmp_path: Path) -> None:
    """A sliver of the card's measurement, on prompts of its own."""
    teacher = Teacher(None, "cpu")
    draft = recipe.load_draft(PAIR / "draft")
    heads = ExitHeads.load(PAIR / "exits")
    assert heads.target_sha256 == weights_sha256(PAIR / "target")
    tokenizer = Tokenizer.from_file(str(PAIR / "target" / "tokenizer.json"))
    held_out = pack(tokenizer, [document.text for document in corpus.collect().held_out])
    assert figures.loss(measure.draft_scorer(draft), held_out[:2048]) < 5.0

    starts = np.linspace(0, len(held_out) - 64, 8).astype(int)
    prompts = [held_out[start : start + 64].tolist() for start in starts]
    asked = answers.questions(prompts, 12, [0.8], 77)
    own = list(answers.answer(Target.load(threads=1), asked, 48))
    size = teacher.vocabulary_size
    seen = measure.observe(measure.draft_scorer(draft), ["draft"], own, size)["draft"]
    assert seen.rate == pytest.approx(card_figures["draft"]["agreement"]["own"]["0.8"]["rate"], abs=0.12)
    names = [str(layer) for layer in heads.layers]
    for name, sight in measure.observe(measure.exit_scorer(teacher, heads.heads), names, own, size).items():
        assert sight.rate == pytest.approx(
            card_figures["exits"]["agreement"][name]["own"]["0.8"]["rate"], abs=0.12
        )


def test_the_draft_holds_a_calibration_of_four_ranks_at_every_temperature() -> None:
    data = json.loads((PAIR / "draft" / recipe.CALIBRATION_FILE).read_text(encoding="utf-8"))
    calibration = Calibration.from_json(data)
    assert calibration.ranks == 4
    assert tuple(sorted(calibration.curves)) == (0.0, 0.5, 0.8, 1.0)
    assert calibration.probability(5.0, 0.8) > calibration.probability(0.1, 0.8)
    assert calibration.probability(5.0, 0.8, rank=1) < calibration.probability(0.1, 0.8, rank=1)


def test_a_reliability_diagram_sets_what_is_stated_against_what_happens() -> None:
    margins = np.linspace(0.0, 4.0, 1000)
    correct = np.arange(1000) % 4 != 0
    calibration = Calibration.fit({0.8: margins}, {0.8: correct[:, None]})
    bins = reliability(np.asarray(calibration.probability(margins, 0.8)), correct)
    assert sum(count for *_, count in bins) == 1000 and len(bins) == 10
    assert all(abs(stated - frequency) < 0.05 for stated, frequency, _ in bins)
