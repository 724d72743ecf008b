"""The recipe: its pure parts, a smoke run on a sliver, and the committed pair against its own model card."""

from __future__ import annotations

import itertools
import json
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgespec.cli.train import train as train_command
from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.model.exits import ExitHeads, sha256_of, weights_sha256
from edgespec.train import corpus, folders, loop, measure, recipe
from edgespec.train.card import render, write_card
from edgespec.train.figures import FIGURES_FILE, reliability
from edgespec.train.packing import Batches, pack
from edgespec.train.stage import rate_share, window
from edgespec.train.target import Shape, TargetStage
from edgespec.train.teacher import Lesson, Teacher

PAIR = Path(recipe.__file__).parents[1] / "pair"
TINY = Shape(layers=3, width=32, heads=2, key_value_heads=1, inner=48, context=64, vocabulary=512)
TINIER = Shape(layers=1, width=16, heads=2, key_value_heads=1, inner=24, context=64, vocabulary=512)


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
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
    assert all(corpus.is_held_out(document.path) for document in texts.held_out)
    assert not any(corpus.is_held_out(document.path) for document in texts.train)
    assert corpus.collect(sliver) == texts


def test_a_corpus_that_is_missing_or_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="does not exist"):
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
    stream = pack(tokenizer, [corpus.Document("a.py", "import os"), corpus.Document("b.py", "x = 1\n")])
    assert stream[-1] == 0 and (stream == 0).sum() == 2
    assert tokenizer.decode(list(stream)) == "import osx = 1\n"

    numbers = np.arange(1000, dtype=np.int32)
    batches = Batches(numbers, tokens=64, seed=1)
    seen = np.concatenate([batches.next(16).reshape(-1) for _ in range(15)])
    assert len(np.unique(seen)) == len(seen) == 15 * 64


def test_batches_go_on_where_they_were(sliver: Path) -> None:
    numbers = np.arange(5000, dtype=np.int32)
    first, second = (Batches(numbers, tokens=64, seed=1) for _ in range(2))
    for _ in range(100):
        first.next(32)
    second.restore(first.state())
    np.testing.assert_array_equal(first.next(32), second.next(32))


def test_the_rate_rises_holds_and_ends_at_zero_and_windows_grow_to_the_context() -> None:
    shares = [rate_share(fraction) for fraction in np.linspace(0, 1, 101)]
    assert 0 < shares[0] < 0.1 and max(shares) == 1.0 and shares[-1] == 0.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[10:]))
    lengths = [window(fraction, 2048) for fraction in (0.0, 0.5, 0.7, 0.95)]
    assert lengths == [512, 512, 1024, 2048]


# The loop and the folders


def _tiny_stage() -> TargetStage:
    stream = np.random.default_rng(0).integers(0, TINY.vocabulary, 4000).astype(np.int32)
    return TargetStage(TINY, stream, seed=0, tokens_a_step=128)


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path: Path) -> None:
    budget = loop.Budget(minutes=1e6, most_steps=8, checkpoint_every_s=0.0)
    straight = _tiny_stage()
    loop.train(straight, budget, quiet=True)

    killed = _tiny_stage()
    step = killed.step

    def step_until_killed(fraction: float) -> tuple[float, int]:
        if fraction >= 0.5:
            raise KeyboardInterrupt
        return step(fraction)

    killed.step = step_until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        loop.train(killed, budget, tmp_path / "checkpoint.pt", quiet=True)
    resumed = _tiny_stage()
    record = loop.train(resumed, budget, tmp_path / "checkpoint.pt", quiet=True)
    assert (record.steps, record.tokens) == (8, 8 * 128)
    for name, weights in resumed.model.state_dict().items():
        torch.testing.assert_close(weights, straight.model.state_dict()[name], msg=name)


def test_a_checkpoint_of_another_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    budget = loop.Budget(minutes=1e6, most_steps=2, checkpoint_every_s=0.0)
    loop.train(_tiny_stage(), budget, checkpoint, quiet=True)
    stream = np.zeros(4000, dtype=np.int32)
    with pytest.raises(EdgespecError, match="does not fit this run"):
        loop.train(TargetStage(TINIER, stream, seed=0, tokens_a_step=128), budget, checkpoint, quiet=True)
    checkpoint.write_bytes(b"half a file")
    with pytest.raises(EdgespecError, match="does not fit this run"):
        loop.train(_tiny_stage(), budget, checkpoint, quiet=True)


def test_a_stage_that_fails_leaves_no_folder_and_a_strange_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folders.whole_folder(tmp_path / "target"):
        raise RuntimeError
    assert not (tmp_path / "target").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(EdgespecError, match="is not this recipe's"), folders.whole_folder(tmp_path / "mine"):
        pass


def test_a_smoke_run_of_the_whole_recipe_leaves_a_pair_that_loads_and_a_card(
    sliver: Path, tmp_path: Path
) -> None:
    sample = measure.Sample(prompts=8, prompt_tokens=12, new_tokens=12)
    run = recipe.Run(corpus=sliver, most_steps=3, quiet=True, sample=sample)
    recipe.make_target(tmp_path / "target", 1.0, run, TINY)
    recipe.make_draft(tmp_path / "draft", tmp_path / "target", 1.0, run, TINIER)
    recipe.make_exits(tmp_path / "exits", tmp_path / "target", 1.0, run, layers=(1, 2), rank=4)

    measured = write_card(tmp_path, run)
    assert json.loads((tmp_path / FIGURES_FILE).read_text()) == measured
    assert measured["target"]["training"]["steps"] == measured["exits"]["training"]["steps"] == 3
    assert sorted(measured["exits"]["agreement"]) == ["1", "2"]
    assert (
        f"{measured['draft']['agreement']['own']['0.8']['rate']:.3f}" in (tmp_path / "README.md").read_text()
    )
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


def test_more_steps_learn_more() -> None:
    stream = np.tile(np.arange(40, dtype=np.int32), 200)
    stage = TargetStage(TINY, stream, seed=0, tokens_a_step=256)
    first, _ = stage.step(0.3)
    for _ in range(30):
        last, _ = stage.step(0.3)
    assert last < first / 2


@pytest.mark.parametrize("stage", ["draft", "exits"])
def test_a_target_that_is_not_there_is_one_sentence(stage: str, tmp_path: Path) -> None:
    arguments = [stage, "--target", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--quiet"]
    error = CliRunner().invoke(train_command, arguments).exception
    assert isinstance(error, EdgespecError) and "holds no model: train one first" in str(error)
    assert not (tmp_path / "out").exists()


# The committed pair


def test_the_pair_is_the_one_that_its_card_describes(figures: dict[str, Any]) -> None:
    for name, file in figures["files"].items():
        assert (PAIR / name).stat().st_size == file["bytes"], name
        assert sha256_of(PAIR / name) == file["sha256"], name
    weights = [path for path in PAIR.rglob("*.safetensors")]
    assert {path.relative_to(PAIR).as_posix() for path in weights} <= set(figures["files"])
    assert sum(path.stat().st_size for path in PAIR.rglob("*") if path.is_file()) <= 40_000_000
    assert (PAIR / "README.md").read_text(encoding="utf-8") == render(figures)


def test_the_pair_is_a_fair_test_bed(figures: dict[str, Any]) -> None:
    config = json.loads((PAIR / "target" / "config.json").read_text())
    assert config["max_position_embeddings"] >= 2048
    assert figures["work_ratio"] >= 15
    assert 0.55 <= figures["draft"]["agreement"]["own"]["0.8"]["rate"] <= 0.75
    assert len(figures["exits"]["layers"]) in (3, 4)
    for layer, agreement in figures["exits"]["agreement"].items():
        assert agreement["own"]["0.8"]["fifths"][-1] >= 0.90, layer
    for guesser in (figures["draft"]["agreement"], *figures["exits"]["agreement"].values()):
        assert all(cell["calibration_error"] < 0.05 for cell in guesser["own"].values())


@pytest.mark.timeout(400)
def test_the_pair_does_what_its_card_says(figures: dict[str, Any]) -> None:
    """A sliver of the card's measurement, on prompts of its own."""
    teacher = Teacher.load(PAIR / "target")
    draft = recipe.load_draft(PAIR / "draft")
    heads = ExitHeads.load(PAIR / "exits")
    assert heads.target_sha256 == weights_sha256(PAIR / "target")
    _, _, held_out = recipe.streams(PAIR / "target", recipe.Run())
    assert measure.loss(measure.draft_scorer(draft), held_out, 256, most_tokens=8192) < 5.0

    prompt = measure.prompts(held_out, 24, 64, seed=77)
    texts = measure.continuations(teacher, prompt, 64, 0.8, seed=77)
    seen = measure.observe(teacher, measure.draft_scorer(draft), ["draft"], texts, 0.8, seed=78)["draft"]
    assert seen.rate == pytest.approx(figures["draft"]["agreement"]["own"]["0.8"]["rate"], abs=0.1)
    names = [str(layer) for layer in heads.layers]
    scorer = recipe.exit_scorer(teacher, heads.heads)
    for name, sight in measure.observe(teacher, scorer, names, texts, 0.8, seed=78).items():
        assert sight.rate == pytest.approx(
            figures["exits"]["agreement"][name]["own"]["0.8"]["rate"], abs=0.08
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
