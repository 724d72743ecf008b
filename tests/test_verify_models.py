"""`edgespec verify` and `edgespec calibrate` on tiny models of a user's own."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from trainable import MORE_FAMILIES, chat_rows, save_target

from edgespec.cli.calibrate import calibrate
from edgespec.cli.verify import _compared, _verdict, verify
from edgespec.core.errors import EdgespecError
from edgespec.engines.compiling import compile
from edgespec.engines.draft_engine import load_draft
from edgespec.model.reference import ReferenceText


def run(*arguments: object) -> Result:
    return CliRunner().invoke(verify, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another model with the same tokenizer."""
    folder = tmp_path_factory.mktemp("draft")
    draft = save_target(folder / "model", "qwen2.5", num_hidden_layers=1, layer_types=["full_attention"])
    return compile(draft, folder / "engine", runtime="onnxruntime", progress=False)


def test_every_mode_is_exact_in_float64(engine: Path, tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", "gemma-3")
    small = ["--prompt", "The doors", "--max-new-tokens", 12, "--device", "cpu"]
    result = run("--target", target, "--draft", engine, *small, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"].startswith("Exact: all ") and found["verdict"] in result.output
    kinds = {(row["mode"], row["temperature"], row["constraints"]) for row in found["rows"]}
    assert kinds >= set(
        itertools.product(("cloud", "sync", "auto"), (0.0, 0.8), ("none", "penalties", "guide"))
    )
    assert all(row["different"] == 0 and row["tokens"] > 0 for row in found["rows"])


@pytest.mark.parametrize("family", ["llama-3", "qwen2.5", *MORE_FAMILIES])
def test_more_families_are_exact_in_float64(family: str, engine: Path, tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", family)
    few = ["--prompt", "The doors", "--max-new-tokens", 8, "--device", "cpu", "--modes", "cloud,sync,stream"]
    result = run("--target", target, "--draft", engine, *few)
    assert result.exit_code == 0 and "Exact: all " in result.output, result.output


def test_a_text_that_differs_is_counted_with_the_margin_where_it_first_does() -> None:
    reference = ReferenceText([5, 6, 7], [3.0, 0.25, 2.0])
    kind = 0.8, "none"
    [row] = rows = list(_compared("sync", [kind, kind], [[5, 6, 7], [5, 9, 9]], [reference, reference]))
    assert (row["mode"], row["temperature"], row["constraints"]) == ("sync", *kind)
    assert (row["texts"], row["tokens"], row["different"], row["margins"]) == (2, 6, 1, [0.25])
    assert _verdict(rows, "bfloat16")[1] and not _verdict(rows, "float64")[1]
    assert _verdict(rows, "float64")[0].startswith("Not exact: 1 of 2 texts differ")


@pytest.mark.parametrize(
    "option, said",
    [
        (["--modes", "sync"], "mode 'sync' needs a draft: give --draft"),
        (["--temperatures", "warm"], "--temperatures takes numbers"),
        (["--constraints", "rhymes"], "--constraints takes some of none, penalties, guide"),
    ],
)
def test_bad_options_are_one_sentence(option: list[str], said: str) -> None:
    error = run(*option).exception
    assert isinstance(error, EdgespecError) and said in str(error)


def test_a_calibration_is_fitted_to_the_targets_answers_and_the_engine_stays_whole(
    engine: Path, tmp_path: Path
) -> None:
    before = load_draft(engine).calibration
    target = save_target(tmp_path / "target")
    data = chat_rows(tmp_path / "chat.jsonl")
    named = ["--target", str(target), "--data", str(data), "--measured", "6", "--new-tokens", "12", "--quiet"]
    result = CliRunner().invoke(calibrate, [str(engine), *named, "--device", "cpu"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "T = 0.8: the draft is right in" in result.output
    after = load_draft(engine).calibration
    assert tuple(sorted(after.curves)) == (0.0, 0.5, 0.8, 1.0) and after != before
    assert not engine.with_name("engine.unfinished").exists()
